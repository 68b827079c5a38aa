use std::sync::Arc;

use thiserror::Error;

use super::escape::{push_markdown, push_yaml};

/// The text of a file with placeholders in it.
///
/// | placeholder | value |
/// | --- | --- |
/// | `{{user_id}}` `{{name}}` `{{email}}` | the person |
/// | `{{profile}}` | name of the profile |
/// | `{{key_id}}` | id of the person's key |
/// | `{{sandbox}}` | `true` or `false` |
/// | `{{directory}}` `{{workspace}}` `{{sessions}}` `{{sandbox_workspace}}` | directories as the instance sees them |
///
/// In a profile (YAML) a placeholder becomes a whole value: a quoted string, `true`, `false`, or
/// `null` where there is none; so it is written without quotes around it. In Markdown it becomes a
/// piece of plain text on one line, `unknown` where there is none. Either way nothing that a value
/// contains is markup, a line break or another placeholder.
///
/// # Examples
///
/// ```
/// use tower_workspace::fs::Template;
///
/// assert!(Template::parse("Assistant of {{name}} <{{email}}>").is_ok());
/// let error = Template::parse("first line\n{{nmae}}").unwrap_err();
/// assert_eq!(error.to_string(), "unknown placeholder {{nmae}} in line 2");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Arc<[Piece]>);

/// Why a text is no [`Template`].
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error("unknown placeholder {{{{{placeholder}}}}} in line {line}")]
    UnknownPlaceholder {
        /// What is between the braces.
        placeholder: String,
        /// Line of the text, from 1.
        line: usize,
    },
    /// A `{{` without a `}}` in its line.
    #[error("placeholder without end in line {line}")]
    Unclosed {
        /// Line of the text, from 1.
        line: usize,
    },
}

/// What the placeholders stand for.
pub(super) struct Values<'a> {
    pub(super) user_id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) email: Option<&'a str>,
    pub(super) profile: &'a str,
    pub(super) key_id: Option<&'a str>,
    pub(super) sandbox: bool,
    pub(super) directory: &'a str,
    pub(super) workspace: &'a str,
    pub(super) sessions: &'a str,
    pub(super) sandbox_workspace: &'a str,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(Box<str>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    UserId,
    Name,
    Email,
    Profile,
    KeyId,
    Sandbox,
    Directory,
    Workspace,
    Sessions,
    SandboxWorkspace,
}

enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Absent,
}

// === impl Template ===

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// [`TemplateError::UnknownPlaceholder`] for a misspelt placeholder,
    /// [`TemplateError::Unclosed`] for one that does not end in its line.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let line = || text[..text.len() - after.len()].matches('\n').count() + 1;
            let placeholder = after
                .split_once("}}")
                .filter(|(placeholder, _)| !placeholder.contains('\n'));
            let Some((placeholder, tail)) = placeholder else {
                return Err(TemplateError::Unclosed { line: line() });
            };
            let Some(field) = Field::find(placeholder.trim()) else {
                return Err(TemplateError::UnknownPlaceholder {
                    placeholder: placeholder.to_owned(),
                    line: line(),
                });
            };
            pieces.extend([Piece::Text(before.into()), Piece::Field(field)]);
            rest = tail;
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self(pieces.into()))
    }

    pub(super) fn render_yaml(&self, values: &Values<'_>) -> String {
        self.render(|out, field| match values.find(field) {
            Value::Text(text) => push_yaml(out, text),
            Value::Bool(bool) => out.push_str(if bool { "true" } else { "false" }),
            Value::Absent => out.push_str("null"),
        })
    }

    pub(super) fn render_markdown(&self, values: &Values<'_>) -> String {
        self.render(|out, field| match values.find(field) {
            Value::Text(text) => push_markdown(out, text, MARKDOWN_VALUE_MAX),
            Value::Bool(bool) => out.push_str(if bool { "true" } else { "false" }),
            Value::Absent => out.push_str("unknown"),
        })
    }

    fn render(&self, push_value: impl Fn(&mut String, Field)) -> String {
        let mut out = String::new();
        for piece in &*self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => push_value(&mut out, *field),
            }
        }
        out
    }
}

// === impl Field ===

impl Field {
    fn find(placeholder: &str) -> Option<Self> {
        Some(match placeholder {
            "user_id" => Self::UserId,
            "name" => Self::Name,
            "email" => Self::Email,
            "profile" => Self::Profile,
            "key_id" => Self::KeyId,
            "sandbox" => Self::Sandbox,
            "directory" => Self::Directory,
            "workspace" => Self::Workspace,
            "sessions" => Self::Sessions,
            "sandbox_workspace" => Self::SandboxWorkspace,
            _ => return None,
        })
    }
}

// === impl Values ===

impl Values<'_> {
    fn find(&self, field: Field) -> Value<'_> {
        let text = match field {
            Field::Sandbox => return Value::Bool(self.sandbox),
            Field::UserId => Some(self.user_id),
            Field::Name => self.name,
            Field::Email => self.email,
            Field::Profile => Some(self.profile),
            Field::KeyId => self.key_id,
            Field::Directory => Some(self.directory),
            Field::Workspace => Some(self.workspace),
            Field::Sessions => Some(self.sessions),
            Field::SandboxWorkspace => Some(self.sandbox_workspace),
        };
        text.map_or(Value::Absent, Value::Text)
    }
}

/// Characters of a value that go into Markdown: a longest e-mail address (254, RFC 5321 erratum
/// 1690) fits, a sermon to the model does not.
const MARKDOWN_VALUE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> = Values {
        user_id: "auth0|1",
        name: Some("{{email}}\n- sandbox: false"),
        email: None,
        profile: "user-x",
        key_id: None,
        sandbox: true,
        directory: "/d",
        workspace: "/d/workspace",
        sessions: "/d/sessions",
        sandbox_workspace: "/d/sandbox-workspace",
    };

    #[test]
    fn d4_45_a_value_is_never_read_as_a_template() {
        let template = Template::parse("a: {{name}}\nb: {{ email }}\n").unwrap();
        assert_eq!(
            template.render_yaml(&VALUES),
            "a: \"{{email}}\\n- sandbox: false\"\nb: null\n"
        );
        assert_eq!(
            template.render_markdown(&VALUES),
            "a: \\{\\{email\\}\\} - sandbox\\: false\nb: unknown\n"
        );
    }

    #[test]
    fn every_placeholder_has_its_value() {
        let template = Template::parse(
            "{{user_id}} {{profile}} {{key_id}} {{sandbox}} {{directory}} {{workspace}} {{sessions}} \
             {{sandbox_workspace}}",
        );
        assert_eq!(
            template.unwrap().render_yaml(&VALUES),
            "\"auth0|1\" \"user-x\" null true \"/d\" \"/d/workspace\" \"/d/sessions\" \
             \"/d/sandbox-workspace\""
        );
    }

    #[test]
    fn text_without_placeholders_is_kept() {
        for text in ["", "}} { } {x}", "line\nline\n"] {
            assert_eq!(Template::parse(text).unwrap().render_yaml(&VALUES), text);
        }
    }

    #[test]
    fn a_bad_placeholder_is_refused_with_its_line() {
        let unknown = |placeholder: &str, line| TemplateError::UnknownPlaceholder {
            placeholder: placeholder.to_owned(),
            line,
        };
        for (text, error) in [
            ("{{nmae}}", unknown("nmae", 1)),
            ("{{name}}\n\n{{}}", unknown("", 3)),
            ("{{api_key}}", unknown("api_key", 1)),
            ("\n{{name", TemplateError::Unclosed { line: 2 }),
            ("{{name\n}}", TemplateError::Unclosed { line: 1 }),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text:?}");
        }
    }
}
