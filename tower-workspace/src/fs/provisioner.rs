use std::{
    fmt,
    future::Future,
    io::Write,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::{JoinError, spawn_blocking};

use super::{
    Archive, Bounds, ExportError, Exported, Owner, Person, ProvisionError, Snapshot, Template,
    Templates,
    dir::Dir,
    export::export,
    flight::{Flights, Landed},
    removal::{self, Removal},
    template::Values,
};
use crate::{DirectoryName, NameError, Workspace};

/// Makes and repairs the directory trees of users below one root.
///
/// Cheap to clone; clones share what is under way. See the [module documentation](super) for the
/// tree and for what is refused.
///
/// # Examples
///
/// ```
/// use tower_workspace::fs::{Person, Provisioner};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = tempfile::tempdir()?;
/// let provisioner = Provisioner::new(root.path()).instance_root("/data/users");
/// let alice = Person::new("alice").with_name("Alice").with_key_id("vk_1");
///
/// let workspace = provisioner.provision(&alice).await?;
///
/// assert!(workspace.workspace_dir().join("IDENTITY.md").is_file());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Provisioner {
    plan: Arc<Plan>,
    flights: Arc<Flights>,
}

#[derive(Clone)]
struct Plan {
    root: PathBuf,
    instance_root: Option<PathBuf>,
    owner: Option<Owner>,
    identity: Template,
    agents: Template,
    profile: Template,
    templates: Templates,
}

// === impl Provisioner ===

impl Provisioner {
    /// A provisioner of trees below `root`, for instances that run as this process's user and see
    /// the root where this host does, with templates of its own.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            plan: Arc::new(Plan {
                root: root.into(),
                instance_root: None,
                owner: None,
                identity: built_in(include_str!("templates/IDENTITY.md")),
                agents: built_in(include_str!("templates/AGENTS.md")),
                profile: built_in(include_str!("templates/profile.yml")),
                templates: Templates::default(),
            }),
            flights: Arc::default(),
        }
    }

    /// Sets whom the trees belong to. Default: this process's user.
    ///
    /// Another user than this process's takes root, or `CAP_CHOWN` and `CAP_DAC_OVERRIDE`.
    #[must_use]
    pub fn owner(self, owner: Owner) -> Self {
        self.with(|plan| plan.owner = Some(owner))
    }

    /// Sets where the instance sees the root. Default: where this host does.
    #[must_use]
    pub fn instance_root(self, root: impl Into<PathBuf>) -> Self {
        self.with(|plan| plan.instance_root = Some(root.into()))
    }

    /// Sets the template of `IDENTITY.md`. Files that exist keep their content.
    #[must_use]
    pub fn identity_template(self, template: Template) -> Self {
        self.with(|plan| plan.identity = template)
    }

    /// Sets the template of `AGENTS.md`. Files that exist keep their content.
    #[must_use]
    pub fn agents_template(self, template: Template) -> Self {
        self.with(|plan| plan.agents = template)
    }

    /// Sets the files that everybody finds in their workspace. Files that exist keep their content.
    #[must_use]
    pub fn templates(self, templates: Templates) -> Self {
        self.with(|plan| {
            if let Some(identity) = &templates.identity {
                plan.identity = identity.clone();
            }
            if let Some(agents) = &templates.agents {
                plan.agents = agents.clone();
            }
            plan.templates = templates;
        })
    }

    /// Sets the template of the profile.
    #[must_use]
    pub fn profile_template(self, template: Template) -> Self {
        self.with(|plan| plan.profile = template)
    }

    /// The root of all trees on this host.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.plan.root
    }

    /// The workspace that [`provision`](Self::provision) makes for `person`. Touches no file.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the user id can have no directory.
    pub fn describe(&self, person: &Person) -> Result<Workspace, NameError> {
        let mut workspace = Workspace::new(Arc::clone(&person.user_id), &self.plan.root)?
            .with_sandbox(person.sandbox);
        if let Some(root) = &self.plan.instance_root {
            workspace = workspace.with_instance_root(root);
        }
        if let Some(key_id) = &person.key_id {
            workspace = workspace.with_key_id(Arc::clone(key_id));
        }
        Ok(workspace)
    }

    /// Makes sure that the tree of `person` is there and right.
    ///
    /// Runs on the blocking threads of the Tokio runtime, one run per user at a time; callers that
    /// wait while the same is made for the same person share the result.
    ///
    /// # Errors
    ///
    /// Every variant of [`ProvisionError`].
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A run that has begun is completed, even if nobody waits for it.
    pub fn provision(
        &self,
        person: &Person,
    ) -> impl Future<Output = Result<Arc<Workspace>, ProvisionError>> + Send + use<> {
        let provisioner = self.clone();
        let person = person.clone();
        async move {
            let workspace = provisioner.describe(&person)?;
            let mut flight = provisioner.flights.board(workspace.name()).await;
            if let Some(landed) = &*flight
                && landed.person == person
            {
                return Ok(Arc::clone(&landed.workspace));
            }
            let run = spawn_blocking(move || {
                let workspace = Arc::new(provisioner.provision_blocking(&person)?);
                *flight = Some(Landed {
                    person,
                    workspace: Arc::clone(&workspace),
                });
                Ok(workspace)
            });
            landed(run.await)
        }
    }

    /// [`provision`](Self::provision) for threads that may block. Shares no run with others, which
    /// costs time and nothing else.
    ///
    /// # Errors
    ///
    /// Every variant of [`ProvisionError`] but [`Interrupted`](ProvisionError::Interrupted).
    pub fn provision_blocking(&self, person: &Person) -> Result<Workspace, ProvisionError> {
        let workspace = self.describe(person)?;
        self.plan.carry_out(&workspace, person)?;
        Ok(workspace)
    }

    /// Counts what there is of somebody's files; `None` if they have no directory.
    ///
    /// Runs on the blocking threads of the Tokio runtime, beside whatever else is done for them.
    ///
    /// # Errors
    ///
    /// [`ProvisionError`] if the directory is not what it should be.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. It goes on until it ends or its bounds are reached, even if nobody waits for it.
    pub fn snapshot(
        &self,
        user_id: &str,
        bounds: Bounds,
    ) -> impl Future<Output = Result<Option<Snapshot>, ProvisionError>> + Send + use<> {
        let provisioner = self.clone();
        let user_id: Arc<str> = user_id.into();
        async move {
            landed(spawn_blocking(move || provisioner.snapshot_blocking(&user_id, bounds)).await)
        }
    }

    /// [`snapshot`](Self::snapshot) for threads that may block.
    ///
    /// # Errors
    ///
    /// As there, but never [`Interrupted`](ProvisionError::Interrupted).
    pub fn snapshot_blocking(
        &self,
        user_id: &str,
        bounds: Bounds,
    ) -> Result<Option<Snapshot>, ProvisionError> {
        let Some(tree) = self.plan.find_tree(user_id)? else {
            return Ok(None);
        };
        Ok(Some(Snapshot::take(&tree, bounds)))
    }

    /// Writes somebody's files into `archive`; `None` if they have no directory. Blocks, as long as
    /// the writer takes.
    ///
    /// # Errors
    ///
    /// [`ExportError::Workspace`] if the directory is not what it should be,
    /// [`ExportError::Write`] if the archive cannot be written on.
    pub fn export<W: Write>(
        &self,
        user_id: &str,
        bounds: Bounds,
        archive: &mut Archive<W>,
    ) -> Result<Option<Exported>, ExportError> {
        let Some(tree) = self.plan.find_tree(user_id)? else {
            return Ok(None);
        };
        export(&tree, bounds, archive).map(Some)
    }

    /// Removes somebody's directory with everything in it, and what an earlier attempt left of it.
    /// `false` if there was nothing.
    ///
    /// Runs on the blocking threads of the Tokio runtime, as the only run for its user. Other processes may
    /// provision for them at the same time, and then make a new directory. Processes that still work
    /// in the old one lose what they write.
    ///
    /// # Errors
    ///
    /// [`ProvisionError`] with the first thing that stood in the way: what is not a directory, or is
    /// another's, is left alone; of a directory everything else is removed that can be.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A run that has begun is completed, even if nobody waits for it.
    pub fn remove(
        &self,
        user_id: &str,
    ) -> impl Future<Output = Result<bool, ProvisionError>> + Send + use<> {
        let provisioner = self.clone();
        let user_id: Arc<str> = user_id.into();
        async move {
            let name = DirectoryName::for_user(&user_id)?;
            let mut flight = provisioner.flights.board(&name).await;
            let run = spawn_blocking(move || {
                *flight = None;
                provisioner.remove_blocking(&user_id)
            });
            landed(run.await)
        }
    }

    /// [`remove`](Self::remove) for threads that may block.
    ///
    /// # Errors
    ///
    /// As there, but never [`Interrupted`](ProvisionError::Interrupted).
    pub fn remove_blocking(&self, user_id: &str) -> Result<bool, ProvisionError> {
        let name = DirectoryName::for_user(user_id)?;
        let Some(root) = Dir::find_root(&self.plan.root, self.plan.owner)? else {
            return Ok(false);
        };
        let removal = Removal::new(&root, &name);
        if let Some(tree) = removal.find()? {
            refuse_anothers(&tree, user_id)?;
            removal.bury(|tree| refuse_anothers(tree, user_id))?;
        }
        removal.clear()
    }

    /// Finishes everybody's removals that were interrupted. Blocks; belongs where a server starts.
    ///
    /// # Errors
    ///
    /// [`ProvisionError`] with the first thing that stood in the way, after everything else was removed.
    pub fn finish_removals(&self) -> Result<(), ProvisionError> {
        match Dir::find_root(&self.plan.root, self.plan.owner)? {
            Some(root) => removal::clear(&root, |_| true).map(drop),
            None => Ok(()),
        }
    }

    /// Whether the root is there. Changes nothing, and blocks.
    ///
    /// # Errors
    ///
    /// [`ProvisionError::UnsafeRoot`] if others could exchange what is in it, [`ProvisionError`] for what else keeps
    /// workspaces from being made there.
    pub fn find_root(&self) -> Result<bool, ProvisionError> {
        let root = Dir::find_root(&self.plan.root, self.plan.owner)?;
        Ok(root.is_some())
    }

    /// Changes the plan, and so parts from the clones that follow the old one.
    fn with(self, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Arc::unwrap_or_clone(self.plan);
        change(&mut plan);
        Self {
            plan: Arc::new(plan),
            flights: Arc::default(),
        }
    }
}

impl fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioner")
            .field("root", &self.plan.root)
            .field("instance_root", &self.plan.instance_root)
            .field("owner", &self.plan.owner)
            .finish_non_exhaustive()
    }
}

// === impl Plan ===

impl Plan {
    /// Somebody's directory, if there is one and it is theirs.
    fn find_tree(&self, user_id: &str) -> Result<Option<Dir>, ProvisionError> {
        let name = DirectoryName::for_user(user_id)?;
        let Some(root) = Dir::find_root(&self.root, self.owner)? else {
            return Ok(None);
        };
        let Some(tree) = root.find_dir(name.as_str())? else {
            return Ok(None);
        };
        refuse_anothers(&tree, user_id)?;
        Ok(Some(tree))
    }

    fn carry_out(&self, workspace: &Workspace, person: &Person) -> Result<(), ProvisionError> {
        let directory = unicode(workspace.instance_directory())?;
        let values = Values {
            user_id: &person.user_id,
            name: person.name.as_deref(),
            email: person.email.as_deref(),
            profile: workspace.profile_name(),
            key_id: person.key_id.as_deref(),
            sandbox: person.sandbox,
            directory,
            workspace: &format!("{directory}/workspace"),
            sessions: &format!("{directory}/sessions"),
            sandbox_workspace: &format!("{directory}/sandbox-workspace"),
        };

        let root = Dir::open_root(&self.root, self.owner)?;
        let tree = root.open_dir(workspace.name().as_str())?;
        let private = tree.open_dir(".openclaw")?;
        claim(&private, &person.user_id)?;

        let files = tree.open_dir("workspace")?;
        files.ensure_file("IDENTITY.md", self.identity.render_markdown(&values))?;
        files.ensure_file("AGENTS.md", self.agents.render_markdown(&values))?;
        self.templates.ensure(&files, &values)?;
        tree.open_dir("sessions")?;
        tree.open_dir("sandbox-workspace")?;
        // Last: where there is a profile, everything is there.
        private.open_dir("profiles")?.write_file(
            &format!("{}.yml", workspace.profile_name()),
            &self.profile.render_yaml(&values),
        )
    }
}

/// What a blocking thread came to.
fn landed<T>(run: Result<Result<T, ProvisionError>, JoinError>) -> Result<T, ProvisionError> {
    match run {
        Ok(result) => result,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(ProvisionError::Interrupted),
    }
}

/// Ties the tree to one user. Names are injective already; this finds the directory that somebody
/// moved or copied.
fn claim(private: &Dir, user_id: &str) -> Result<(), ProvisionError> {
    let owner = format!("{user_id}\n");
    private.ensure_file(OWNER_FILE, &owner)?;
    match private.has_content(OWNER_FILE, &owner)? {
        // Its mode may be wrong.
        Some(true) => private.write_file(OWNER_FILE, &owner),
        _ => Err(ProvisionError::Claimed {
            path: private.path().join(OWNER_FILE),
        }),
    }
}

/// Refuses a tree that names another user. One that names nobody is half made, or was meddled with by
/// whose it is.
fn refuse_anothers(tree: &Dir, user_id: &str) -> Result<(), ProvisionError> {
    let Ok(Some(private)) = tree.find_dir(".openclaw") else {
        return Ok(());
    };
    match private.names_other(OWNER_FILE, &format!("{user_id}\n")) {
        true => Err(ProvisionError::Claimed {
            path: private.path().join(OWNER_FILE),
        }),
        false => Ok(()),
    }
}

fn unicode(path: &Path) -> Result<&str, ProvisionError> {
    path.to_str().ok_or_else(|| ProvisionError::NotUnicode {
        path: path.to_owned(),
    })
}

#[expect(
    clippy::expect_used,
    reason = "the texts are constants, and a test reads each"
)]
fn built_in(text: &str) -> Template {
    Template::parse(text).expect("a template of this crate is valid")
}

const OWNER_FILE: &str = "owner";
