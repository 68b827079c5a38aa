use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::{ProvisionError, Template, TemplateError, dir::Dir, template::Values};

/// The files that everybody finds in their `workspace`, as a folder of yours has them.
///
/// What is `skills/review/SKILL.md` there is `workspace/skills/review/SKILL.md` here. Files that
/// end in `.md`, `.yml` or `.yaml` are [`Template`]s, in Markdown or YAML as they say; all others are
/// copied as they are. Names that begin with a dot are passed over. `IDENTITY.md` and `AGENTS.md`
/// take the place of those that the provisioner has of its own, which it keeps where the folder has none.
///
/// A file that is missing is made at somebody's next visit, whether they are new, or it is, or they removed
/// it. Whatever has its name already is left alone, so what people edited is theirs.
///
/// The folder is trusted and read once: links in it are followed, and what changes there later is
/// seen by whoever reads it anew. It may have 256 files of 1 MiB each, 8 MiB together, below 8 levels of
/// directories.
///
/// # Examples
///
/// ```
/// use tower_workspace::fs::{Person, Provisioner, Templates};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let folder = temp.path().join("templates");
/// # std::fs::create_dir(&folder)?;
/// std::fs::write(folder.join("SOUL.md"), "You work for {{name}}.\n")?;
///
/// let provisioner = Provisioner::new(temp.path().join("root")).templates(Templates::read(&folder)?);
///
/// let workspace = provisioner.provision_blocking(&Person::new("alice").with_name("Alice"))?;
/// let soul = std::fs::read_to_string(workspace.workspace_dir().join("SOUL.md"))?;
/// assert_eq!(soul, "You work for Alice.\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Templates {
    pub(super) identity: Option<Template>,
    pub(super) agents: Option<Template>,
    entries: Arc<[Entry]>,
}

/// Why a folder holds no [`Templates`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TemplatesError {
    /// A file is no template.
    #[error("{path}: {source}")]
    Template {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// A file that should be a template is not UTF-8.
    #[error("{path} is not UTF-8")]
    NotUnicode {
        /// The file.
        path: PathBuf,
    },
    /// There is something that cannot be copied: a pipe, a socket, a name that is not Unicode.
    #[error("{path} is {found}")]
    Unfit {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        found: &'static str,
    },
    /// There is more than everybody's workspace should begin with.
    #[error("{path}: more than {limit}")]
    TooMuch {
        /// Where it became too much.
        path: PathBuf,
        /// The limit, such as `256 files`.
        limit: &'static str,
    },
    /// The folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What cannot be read.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
}

/// A file of everybody's.
#[derive(Debug)]
struct Entry {
    /// Directories below `workspace`.
    directories: Box<[Box<str>]>,
    name: Box<str>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Markdown(Template),
    Yaml(Template),
    Verbatim(Box<[u8]>),
}

/// A folder that is being read.
#[derive(Default)]
struct Folder {
    entries: Vec<Entry>,
    bytes: usize,
}

// === impl Templates ===

impl Templates {
    /// Reads the templates of a folder.
    ///
    /// # Errors
    ///
    /// See [`TemplatesError`]; each names the file.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, TemplatesError> {
        let mut found = Folder::default();
        found.read(folder.as_ref(), &mut Vec::new())?;
        Ok(Self {
            identity: found.take("IDENTITY.md"),
            agents: found.take("AGENTS.md"),
            entries: found.entries.into(),
        })
    }

    /// Makes the files that are missing below `workspace`. None of them is needed: what somebody has put in
    /// the place of one stays.
    pub(super) fn ensure(&self, files: &Dir, values: &Values<'_>) -> Result<(), ProvisionError> {
        for entry in &*self.entries {
            match entry.ensure(files, values) {
                Ok(())
                | Err(ProvisionError::Obstructed { .. } | ProvisionError::WrongOwner { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

// === impl Entry ===

impl Entry {
    fn ensure(&self, files: &Dir, values: &Values<'_>) -> Result<(), ProvisionError> {
        let mut below = None;
        for directory in &self.directories {
            below = Some(below.as_ref().unwrap_or(files).open_dir(directory)?);
        }
        let dir = below.as_ref().unwrap_or(files);
        if dir.has(&self.name)? {
            return Ok(());
        }
        match &self.content {
            Content::Markdown(text) => dir.ensure_file(&self.name, text.render_markdown(values)),
            Content::Yaml(text) => dir.ensure_file(&self.name, text.render_yaml(values)),
            Content::Verbatim(bytes) => dir.ensure_file(&self.name, bytes),
        }
    }
}

// === impl Folder ===

impl Folder {
    /// Takes out one that the provisioner has of its own, too.
    fn take(&mut self, name: &str) -> Option<Template> {
        let is_it = |entry: &Entry| entry.directories.is_empty() && *entry.name == *name;
        let at = self.entries.iter().position(is_it)?;
        match self.entries.remove(at).content {
            Content::Markdown(template) | Content::Yaml(template) => Some(template),
            Content::Verbatim(_) => None,
        }
    }

    fn read(&mut self, folder: &Path, below: &mut Vec<Box<str>>) -> Result<(), TemplatesError> {
        let failed = |source| io_error(folder, source);
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        // Always the same error of several, and the same order of making.
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(OsStr::to_str);
            let name = name.ok_or_else(|| unfit(&path, "not a name in Unicode"))?;
            if name.starts_with('.') {
                continue;
            }
            let meta = fs::metadata(&path).map_err(|source| io_error(&path, source))?;
            if meta.is_dir() {
                if below.len() == DEPTH_MAX {
                    return Err(too_much(&path, "8 levels of directories"));
                }
                below.push(name.into());
                self.read(&path, below)?;
                below.pop();
            } else if meta.is_file() {
                let content = self.content(&path)?;
                self.entries.push(Entry {
                    directories: below.clone().into(),
                    name: name.into(),
                    content,
                });
            } else {
                return Err(unfit(&path, "neither a file nor a directory"));
            }
        }
        Ok(())
    }

    fn content(&mut self, path: &Path) -> Result<Content, TemplatesError> {
        if self.entries.len() == FILES_MAX {
            return Err(too_much(path, "256 files"));
        }
        let mut content = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_MAX as u64 + 1).read_to_end(&mut content))
            .map_err(|source| io_error(path, source))?;
        self.bytes += content.len();
        if content.len() > FILE_MAX {
            return Err(too_much(path, "1 MiB in a file"));
        }
        if self.bytes > ALL_MAX {
            return Err(too_much(path, "8 MiB together"));
        }
        let kind = match path.extension().and_then(OsStr::to_str) {
            Some("md") => Content::Markdown,
            Some("yml" | "yaml") => Content::Yaml,
            _ => return Ok(Content::Verbatim(content.into())),
        };
        let text = String::from_utf8(content).map_err(|_| TemplatesError::NotUnicode {
            path: path.to_owned(),
        })?;
        Template::parse(&text)
            .map(kind)
            .map_err(|source| TemplatesError::Template {
                path: path.to_owned(),
                source,
            })
    }
}

fn unfit(path: &Path, found: &'static str) -> TemplatesError {
    TemplatesError::Unfit {
        path: path.to_owned(),
        found,
    }
}

fn too_much(path: &Path, limit: &'static str) -> TemplatesError {
    TemplatesError::TooMuch {
        path: path.to_owned(),
        limit,
    }
}

fn io_error(path: &Path, source: io::Error) -> TemplatesError {
    TemplatesError::Io {
        path: path.to_owned(),
        source,
    }
}

const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 256;
const FILE_MAX: usize = 1 << 20;
const ALL_MAX: usize = 8 << 20;
