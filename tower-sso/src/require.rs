use std::sync::Arc;

use crate::{Identity, Rejection};

/// What an identity must have beyond being verified.
///
/// Each kind that is named must hold: *all* scopes, *one* of the groups, *one* of the roles. Naming
/// a kind with an empty list of groups or roles lets nobody pass.
///
/// # Examples
///
/// ```
/// use tower_sso::{Identity, Require};
///
/// let admins = Require::new().any_role(["admin", "owner"]);
/// let root = Identity::builder("issuer", "root").roles(["admin"]).build();
/// let bob = Identity::builder("issuer", "bob").build();
/// assert!(admins.check(&root).is_ok());
/// assert!(admins.check(&bob).is_err());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a requirement does nothing until it is checked"]
pub struct Require {
    scopes: Vec<Box<str>>,
    /// The scopes joined by spaces, as a challenge names them.
    scope: Arc<str>,
    groups: Option<Vec<Box<str>>>,
    roles: Option<Vec<Box<str>>>,
}

// === impl Require ===

impl Require {
    /// Requires nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires all of these scopes.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.scopes = collect(scopes);
        self.scope = self.scopes.join(" ").into();
        self
    }

    /// Requires one of these groups.
    pub fn any_group(mut self, groups: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.groups = Some(collect(groups));
        self
    }

    /// Requires one of these roles.
    pub fn any_role(mut self, roles: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.roles = Some(collect(roles));
        self
    }

    /// Says whether the identity has what is required.
    ///
    /// # Errors
    ///
    /// [`Rejection::InsufficientScope`] if a scope is missing, [`Rejection::Forbidden`] if the
    /// groups or roles do not suffice.
    pub fn check(&self, identity: &Identity) -> Result<(), Rejection> {
        let all_scopes = self
            .scopes
            .iter()
            .all(|scope| identity.scopes().contains(scope));
        if !all_scopes {
            return Err(Rejection::InsufficientScope {
                scope: Arc::clone(&self.scope),
            });
        }
        if has_any(self.groups.as_deref(), identity.groups())
            && has_any(self.roles.as_deref(), identity.roles())
        {
            Ok(())
        } else {
            Err(Rejection::Forbidden)
        }
    }
}

fn has_any(wanted: Option<&[Box<str>]>, held: &[Box<str>]) -> bool {
    wanted.is_none_or(|wanted| wanted.iter().any(|one| held.contains(one)))
}

fn collect(values: impl IntoIterator<Item: Into<Box<str>>>) -> Vec<Box<str>> {
    values.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::Require;
    use crate::{Identity, Rejection};

    fn identity() -> Identity {
        Identity::builder("issuer", "subject")
            .scopes(["read", "write"])
            .groups(["team-a"])
            .roles(["editor"])
            .build()
    }

    #[test]
    fn all_scopes_and_one_of_groups_and_one_of_roles_are_required() {
        let pass = |require: Require| require.check(&identity()).is_ok();

        assert!(pass(Require::new()));
        assert!(pass(Require::new().scopes(["read", "write"])));
        assert!(pass(Require::new().any_group(["team-b", "team-a"])));
        assert!(pass(Require::new().any_role(["admin", "editor"])));
        assert!(!pass(Require::new().any_group(["team-b"])));
        assert!(!pass(Require::new().any_role(["admin"])));
        assert!(!pass(
            Require::new().any_role(["editor"]).any_group(["team-b"])
        ));
        assert!(!pass(Require::new().any_role(["Editor"])), "case counts");
    }

    #[test]
    fn a_missing_scope_names_all_that_are_needed() {
        assert_eq!(
            Require::new().scopes(["read", "admin"]).check(&identity()),
            Err(Rejection::InsufficientScope {
                scope: "read admin".into()
            })
        );
    }

    #[test]
    fn an_empty_list_lets_nobody_pass() {
        let none: [&str; 0] = [];
        assert_eq!(
            Require::new().any_role(none).check(&identity()),
            Err(Rejection::Forbidden)
        );
        assert_eq!(
            Require::new().any_group(none).check(&identity()),
            Err(Rejection::Forbidden)
        );
    }
}
