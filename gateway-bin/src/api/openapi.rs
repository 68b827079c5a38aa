//! What the API is, for programs: OpenAPI 3.1, made of the routes and of what is said at their handlers.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tower_sso::session::SessionCookie;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, Content, Header, Info, License, Object, ObjectBuilder, OpenApi, Paths, Ref, RefOr,
    Required, ResponseBuilder, Type,
};

use super::error::{ERROR_SCHEMA, ErrorAnswer};
use super::input::MAX_NAME;
use super::routes::{Access, Described, Route, Routes};
use super::{ADMIN, plane};

/// An access token of an issuer, as programs sign in.
const TOKEN: &str = "token";

/// A personal access token.
const KEY: &str = "key";

/// The cookie of a browser that has signed in.
const SESSION: &str = "session";

const JSON: &str = "application/json";

const ABOUT: &str = "Sign-in, workspaces, quotas, usage and administration of a gateway before OpenClaw, and OpenAI's API \
    before its agents. What is below `/api/admin/` is for people with the role `admin`; `/auth/` is there where people can \
    sign in in browsers, which is where an issuer has a `client_id`. What is refused is answered with \
    `{\"error\":{\"code\",\"message\",\"details\"}}`, but as OpenAI does below `/v1/`, and has its id in `x-request-id`.";

/// Written once: anybody may ask for it as often as they like.
static PUBLIC: LazyLock<Bytes> = LazyLock::new(|| written(&document(plane::public())));

static OPERATOR: LazyLock<Bytes> = LazyLock::new(|| written(&document(plane::operator())));

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = OK, body = Object, description = "OpenAPI 3.1")))]
pub(super) async fn public() -> impl IntoResponse {
    ([(CONTENT_TYPE, JSON)], PUBLIC.clone())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = OK, body = Object, description = "OpenAPI 3.1")))]
pub(super) async fn operator() -> impl IntoResponse {
    ([(CONTENT_TYPE, JSON)], OPERATOR.clone())
}

fn written(document: &OpenApi) -> Bytes {
    // It has names and texts only, which can always be written.
    serde_json::to_vec(document).unwrap_or_default().into()
}

fn document(all: impl IntoIterator<Item = Routes>) -> OpenApi {
    let mut paths = Paths::new();
    let mut components = schemes();
    for routes in all {
        let (described, schemas) = routes.described();
        components.schemas.extend(schemas);
        for Described {
            route,
            method,
            operation,
        } in described
        {
            let operation = completed(operation, &route);
            paths.add_path_operation(template(&route), vec![method], operation);
        }
    }
    let error = (ERROR_SCHEMA.to_owned(), ErrorAnswer::schema());
    components.schemas.extend([error]);
    let mut info = Info::new("OpenClaw gateway", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
    let mut document = OpenApi::new(info, paths);
    document.components = Some(components);
    document
}

/// When to come again, as an answer's header.
pub(crate) fn retry_after() -> (String, RefOr<Header>) {
    let mut seconds = Header::new(Object::with_type(Type::Integer));
    seconds.description = Some("seconds after which it is worth another try".to_owned());
    ("retry-after".to_owned(), seconds.into())
}

/// The path as OpenAPI has it, where a name's slashes are escaped.
fn template(route: &Route) -> String {
    route.path.replace("{*", "{")
}

/// What holds for every route of its kind is said here, and not at each handler.
fn completed(mut operation: Operation, route: &Route) -> Operation {
    operation.operation_id = Some(operation_id(route));
    operation.tags = Some(vec![tag(&route.path).to_owned()]);
    let security = || security(route.access);
    operation.security.get_or_insert_with(security);
    let path = template(route);
    let names = path.split('{').skip(1);
    let names = names.filter_map(|rest| Some(rest.split_once('}')?.0));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.splice(0..0, names.map(|name| path_parameter(name).into()));
    let is_json = match &operation.request_body {
        Some(RefOr::T(body)) => body.content.contains_key(JSON),
        _ => false,
    };
    let mut answers = vec![(StatusCode::BAD_REQUEST, "what is asked for is malformed")];
    if route.access != Access::Anybody {
        answers.push((StatusCode::UNAUTHORIZED, "nobody is signed in"));
        answers.push((StatusCode::SERVICE_UNAVAILABLE, "try again in a moment"));
    }
    if is_json {
        answers.push((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        let unsupported = "the body is not said to be application/json";
        answers.push((StatusCode::UNSUPPORTED_MEDIA_TYPE, unsupported));
    }
    match route.access {
        Access::Anybody => {}
        Access::Scope(_) => answers.push((
            StatusCode::FORBIDDEN,
            "the personal access token is not for that",
        )),
        Access::Person => answers.push((
            StatusCode::FORBIDDEN,
            "a personal access token cannot do this, nor can a page of another origin",
        )),
        Access::Administrator => answers.push((
            StatusCode::FORBIDDEN,
            "only an administrator who has signed in may do this, and no page of another origin",
        )),
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in answers {
        let answer = ResponseBuilder::new().description(description);
        let known = responses.entry(status.as_str().to_owned());
        known.or_insert_with(|| answer.build().into());
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else {
            continue;
        };
        // A success says what it has, and a refusal has what every one has.
        if status.as_str() >= "400" && response.content.is_empty() {
            let error = Content::new(Some(Ref::from_schema_name(ERROR_SCHEMA)));
            response.content.insert(JSON.to_owned(), error.into());
            if matches!(&**status, "429" | "503") {
                response.headers.extend([retry_after()]);
            }
        }
    }
    operation
}

/// `get_admin_users`, `delete_keys_id`: as no other is called.
fn operation_id(route: &Route) -> String {
    let path = template(route);
    let path = path.strip_prefix("/api").unwrap_or(&path);
    let mut id = route.method.as_str().to_ascii_lowercase();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        id.push('_');
        let part = part.trim_matches(['{', '}']);
        id.push_str(&part.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    }
    id
}

fn tag(path: &str) -> &str {
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("api"), Some(below)) => below,
        (Some("auth"), _) => "sign-in",
        (Some("v1"), _) => "openai",
        _ => "gateway",
    }
}

/// Any of them is enough. What they have to be good for stands with them: roles of people, scopes of personal access
/// tokens.
fn security(access: Access) -> Vec<SecurityRequirement> {
    let signed_in = |roles: &[&str]| {
        [TOKEN, SESSION].map(|name| SecurityRequirement::new(name, roles.iter().copied()))
    };
    match access {
        Access::Anybody => Vec::new(),
        Access::Scope(scope) => {
            let key = SecurityRequirement::new(KEY, [scope]);
            signed_in(&[]).into_iter().chain([key]).collect()
        }
        Access::Person => signed_in(&[]).into(),
        Access::Administrator => signed_in(&[ADMIN]).into(),
    }
}

fn path_parameter(name: &str) -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_NAME));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(schema))
        .build()
}

fn schemes() -> Components {
    let bearer = |description: &str| {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        SecurityScheme::Http(bearer.description(Some(description)).build())
    };
    let session = ApiKeyValue::with_description(
        SessionCookie::NAME,
        "The session of a browser that has signed in at `/auth/login`.",
    );
    let schemes = [
        (TOKEN, bearer("An access token of an issuer.")),
        (KEY, bearer("A personal access token, of `POST /api/keys`.")),
        (SESSION, SecurityScheme::ApiKey(ApiKey::Cookie(session))),
    ];
    let mut components = Components::new();
    for (name, scheme) in schemes {
        components.add_security_scheme(name, scheme);
    }
    components
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};

    use super::*;
    use crate::ui;

    /// `GET /api/keys` and so on, as a document has them.
    fn documented(document: &Value) -> BTreeSet<String> {
        let paths = document["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
        });
        operations.collect()
    }

    fn described(all: impl IntoIterator<Item = Routes>) -> BTreeSet<String> {
        let described = all.into_iter().flat_map(|routes| routes.described().0);
        let names = described.map(|Described { route, .. }| named(&route));
        names.collect()
    }

    fn named(route: &Route) -> String {
        format!("{} {}", route.method, template(route))
    }

    #[test]
    fn every_route_but_pages_is_described_and_nothing_else() {
        let public = json!(document(plane::public()));
        assert_eq!(documented(&public), described(plane::public()));
        assert_eq!(
            documented(&json!(document(plane::operator()))),
            described(plane::operator())
        );
        let all: BTreeSet<_> = plane::routes().iter().map(named).collect();
        let pages = ui::routes();
        let pages: BTreeSet<_> = pages.declared().map(named).collect();
        assert!(pages.contains("GET /"));
        let described = documented(&public);
        assert!(described.is_disjoint(&pages));
        assert_eq!(&described | &pages, all);
        assert_eq!(public["openapi"], "3.1.0");
    }

    #[test]
    fn every_answer_says_what_it_has() {
        let operator = json!(document(plane::operator()));
        let public = json!(document(plane::public()));
        let mut ids = BTreeSet::new();
        let operations = [&operator, &public].into_iter().flat_map(|document| {
            let items = document["paths"].as_object().into_iter().flatten();
            items.flat_map(|(path, item)| {
                let operations = item.as_object().into_iter().flatten();
                operations.map(move |(method, operation)| (method, path, operation))
            })
        });
        for (method, path, operation) in operations {
            let what = format!("{method} {path}");
            ids.insert((what.clone(), operation["operationId"].to_string()));
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{what}: a handler says what it does");
            let answers = operation["responses"].as_object();
            let mut succeeds = false;
            for (status, answer) in answers.into_iter().flatten() {
                succeeds |= status.starts_with('2') || status == "303";
                let description = answer["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{what}: {status}");
                let is_empty = matches!(&**status, "101" | "204" | "303")
                    || (path == "/auth/backchannel-logout" && status == "200");
                assert_eq!(
                    answer.get("content").is_none(),
                    is_empty,
                    "{what}: {status}"
                );
            }
            assert!(succeeds || path == "/ws", "{what}");
        }
        let names: BTreeSet<_> = ids.iter().map(|(_, id)| id).collect();
        assert_eq!(names.len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn each_name_of_a_schema_is_of_one_and_each_that_is_named_is_there() {
        let mut known = BTreeMap::new();
        let all = plane::public().into_iter().chain(plane::operator());
        for (name, schema) in all.flat_map(|routes| routes.described().1) {
            let schema = json!(schema);
            let before = known.insert(name.clone(), schema.clone());
            assert!(before.is_none_or(|before| before == schema), "{name}");
        }
        let text = json!(document(plane::public())).to_string();
        let mut named = text.split("\"#/components/schemas/").skip(1);
        assert!(named.all(|rest| {
            let name = rest.split('"').next().unwrap_or_default();
            let is_there = name == ERROR_SCHEMA || known.contains_key(name);
            assert!(is_there, "{name}");
            is_there
        }));
    }

    #[test]
    fn who_may_ask_stands_at_each_route() {
        let document = json!(document(plane::public()));
        let at = |method: &str, path: &str| document["paths"][path][method]["security"].clone();
        let person = json!([{TOKEN: []}, {SESSION: []}]);
        assert_eq!(at("get", "/health"), json!([]));
        assert_eq!(at("get", "/api/keys"), person);
        let administrator = json!([{TOKEN: [ADMIN]}, {SESSION: [ADMIN]}]);
        assert_eq!(at("get", "/api/admin/users"), administrator);
        let with_key = json!([{TOKEN: []}, {SESSION: []}, {KEY: ["read"]}]);
        assert_eq!(at("get", "/api/quota"), with_key);
        let with_key = json!([{TOKEN: []}, {SESSION: []}, {KEY: ["chat"]}]);
        assert_eq!(at("post", "/v1/responses"), with_key);
    }
}
