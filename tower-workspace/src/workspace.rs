use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{DirectoryName, NameError};

/// Where a user works: a directory, the names made from it, and what the server fills in.
///
/// Shared as `Arc<Workspace>`. The directory is named twice, as this host sees it and as the
/// instance that works in it does; the two differ when that instance runs in a container or on
/// another machine.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use tower_workspace::Workspace;
///
/// # fn main() -> Result<(), tower_workspace::NameError> {
/// let workspace = Workspace::new("alice", "/data/users")?
///     .with_instance("gateway-1")
///     .with_instance_root("/mnt/users");
///
/// assert_eq!(workspace.workspace_dir(), Path::new("/data/users/alice/workspace"));
/// assert_eq!(workspace.instance_directory(), Path::new("/mnt/users/alice"));
/// assert_eq!(workspace.profile_name(), "user-alice");
/// assert_eq!(workspace.auth_profile_id("anthropic"), "user-alice-anthropic");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Workspace {
    user_id: Arc<str>,
    name: DirectoryName,
    directory: PathBuf,
    workspace_dir: PathBuf,
    instance_directory: PathBuf,
    instance_workspace_dir: PathBuf,
    profile_name: Box<str>,
    key_id: Option<Arc<str>>,
    sandbox: bool,
    instance: Option<Arc<str>>,
    slot: Option<Arc<str>>,
}

// === impl Workspace ===

impl Workspace {
    /// The workspace of a user below `root`. Nothing is created or looked up.
    ///
    /// It has no key and no instance, asks for no sandbox, and an instance sees it where this host
    /// does, until the `with_` methods say otherwise.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the user id can have no directory.
    pub fn new(user_id: impl Into<Arc<str>>, root: impl AsRef<Path>) -> Result<Self, NameError> {
        let user_id = user_id.into();
        let name = DirectoryName::for_user(&user_id)?;
        let directory = root.as_ref().join(&name);
        let workspace_dir = directory.join(WORKSPACE_DIR);
        Ok(Self {
            user_id,
            profile_name: format!("user-{name}").into(),
            name,
            instance_directory: directory.clone(),
            instance_workspace_dir: workspace_dir.clone(),
            directory,
            workspace_dir,
            key_id: None,
            sandbox: false,
            instance: None,
            slot: None,
        })
    }

    /// Sets the root directory as the instance sees it.
    #[must_use]
    pub fn with_instance_root(mut self, root: impl AsRef<Path>) -> Self {
        self.instance_directory = root.as_ref().join(&self.name);
        self.instance_workspace_dir = self.instance_directory.join(WORKSPACE_DIR);
        self
    }

    /// Sets the id of the key that is used on the user's behalf: an id, never the key.
    #[must_use]
    pub fn with_key_id(mut self, key_id: impl Into<Arc<str>>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Sets whether the user's tools must run in a sandbox.
    #[must_use]
    pub fn with_sandbox(mut self, sandbox: bool) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Sets the name of the instance that works in this workspace.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<Arc<str>>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Sets what the instance calls the user's part of it: an agent, an account, a schema.
    #[must_use]
    pub fn with_slot(mut self, slot: impl Into<Arc<str>>) -> Self {
        self.slot = Some(slot.into());
        self
    }

    /// Whose workspace this is.
    #[must_use]
    pub fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    /// Name of the user's directory.
    #[must_use]
    pub fn name(&self) -> &DirectoryName {
        &self.name
    }

    /// The user's directory on this host, `<root>/<name>`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory the user's files are in on this host, `<root>/<name>/workspace`.
    #[must_use]
    pub fn workspace_dir(&self) -> &Path {
        &self.workspace_dir
    }

    /// The user's directory as the instance sees it.
    #[must_use]
    pub fn instance_directory(&self) -> &Path {
        &self.instance_directory
    }

    /// The directory the user's files are in as the instance sees it.
    #[must_use]
    pub fn instance_workspace_dir(&self) -> &Path {
        &self.instance_workspace_dir
    }

    /// Name of the user's profile, `user-<name>`. Unique to the user.
    #[must_use]
    pub fn profile_name(&self) -> &str {
        &self.profile_name
    }

    /// Name of the user's credential for a provider, `user-<name>-<provider>`.
    ///
    /// A label, not a key to look anything up by: `bob` at `azure-openai` and `bob-azure` at
    /// `openai` have the same.
    #[must_use]
    pub fn auth_profile_id(&self, provider: &str) -> String {
        format!("{}-{provider}", self.profile_name)
    }

    /// Id of the key that is used on the user's behalf, if one was assigned.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether the user's tools must run in a sandbox.
    #[must_use]
    pub fn has_sandbox(&self) -> bool {
        self.sandbox
    }

    /// Name of the instance that works in this workspace, if one was assigned.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// What the instance calls the user's part of it, if one was assigned.
    #[must_use]
    pub fn slot(&self) -> Option<&str> {
        self.slot.as_deref()
    }
}

const WORKSPACE_DIR: &str = "workspace";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_everything_from_the_directory_name() {
        let workspace = Workspace::new("auth0|123", "/root").unwrap();
        let name = workspace.name().as_str();
        assert_eq!(workspace.directory(), Path::new("/root").join(name));
        assert_eq!(
            workspace.workspace_dir(),
            Path::new("/root").join(name).join("workspace")
        );
        assert_eq!(workspace.instance_directory(), workspace.directory());
        assert_eq!(workspace.profile_name(), format!("user-{name}"));
        assert_eq!(workspace.auth_profile_id("x"), format!("user-{name}-x"));
        assert_eq!(
            (
                workspace.key_id(),
                workspace.instance(),
                workspace.has_sandbox()
            ),
            (None, None, false)
        );
    }

    #[test]
    fn an_instance_root_moves_only_what_the_instance_sees() {
        let workspace = Workspace::new("bob", "/here")
            .unwrap()
            .with_instance_root("/there")
            .with_key_id("k1")
            .with_sandbox(true)
            .with_instance("gateway-1")
            .with_slot("slot-001");
        assert_eq!(workspace.directory(), Path::new("/here/bob"));
        assert_eq!(
            workspace.instance_workspace_dir(),
            Path::new("/there/bob/workspace")
        );
        assert_eq!(workspace.key_id(), Some("k1"));
        assert_eq!(workspace.instance(), Some("gateway-1"));
        assert_eq!(workspace.slot(), Some("slot-001"));
        assert!(workspace.has_sandbox());
    }
}
