//! What everybody finds in their workspace, from a folder.
#![cfg(all(feature = "fs", unix))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tower_workspace::fs::{Person, ProvisionError, Provisioner, Templates, TemplatesError};

fn setup() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("templates");
    fs::create_dir(&folder).unwrap();
    (temp, folder)
}

fn provisioner(temp: &TempDir, folder: &Path) -> Provisioner {
    let templates = Templates::read(folder).unwrap();
    Provisioner::new(temp.path().join("root")).templates(templates)
}

fn provision(provisioner: &Provisioner, name: &str) -> PathBuf {
    let person = Person::new("alice").with_name(name);
    let workspace = provisioner.provision_blocking(&person).unwrap();
    workspace.workspace_dir().to_owned()
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn everybody_finds_what_the_folder_has() {
    let (temp, folder) = setup();
    fs::create_dir_all(folder.join("skills/review")).unwrap();
    fs::create_dir(folder.join(".git")).unwrap();
    for (name, content) in [
        ("IDENTITY.md", &b"I am {{name}}'s"[..]),
        ("skills/review/SKILL.md", b"# {{user_id}}"),
        ("settings.yml", b"name: {{name}}\n"),
        ("logo.png", b"\x89PNG {{name}} \xff"),
        (".git/config", b"{{nothing}}"),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
    // As a ConfigMap is mounted.
    fs::create_dir(folder.join("..data")).unwrap();
    fs::write(folder.join("..data/SOUL.md"), "soul").unwrap();
    symlink("..data/SOUL.md", folder.join("SOUL.md")).unwrap();

    let provisioner = provisioner(&temp, &folder);
    let workspace = provision(&provisioner, "Alice: x");
    assert_eq!(text(workspace.join("IDENTITY.md")), "I am Alice\\: x's");
    assert!(text(workspace.join("AGENTS.md")).len() > 100, "built in");
    assert_eq!(text(workspace.join("skills/review/SKILL.md")), "# alice");
    assert_eq!(text(workspace.join("settings.yml")), "name: \"Alice: x\"\n");
    assert_eq!(
        fs::read(workspace.join("logo.png")).unwrap(),
        b"\x89PNG {{name}} \xff"
    );
    assert_eq!(text(workspace.join("SOUL.md")), "soul");
    assert_eq!(fs::read_dir(&workspace).unwrap().count(), 6);
    for file in ["skills", "skills/review"] {
        let mode = fs::metadata(workspace.join(file)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o700);
    }
    let link = fs::symlink_metadata(workspace.join("SOUL.md")).unwrap();
    assert!(link.is_file());
}

#[test]
fn changed_templates_change_nothing_that_somebody_has() {
    let (temp, folder) = setup();
    fs::write(folder.join("AGENTS.md"), "old").unwrap();
    fs::write(folder.join("SOUL.md"), "old").unwrap();
    let workspace = provision(&provisioner(&temp, &folder), "Alice");
    fs::write(workspace.join("SOUL.md"), "mine").unwrap();

    for (name, content) in [("AGENTS.md", "new"), ("SOUL.md", "new"), ("USER.md", "new")] {
        fs::write(folder.join(name), content).unwrap();
    }
    provision(&provisioner(&temp, &folder), "Alice");
    assert_eq!(text(workspace.join("AGENTS.md")), "old");
    assert_eq!(text(workspace.join("SOUL.md")), "mine");
    assert_eq!(
        text(workspace.join("USER.md")),
        "new",
        "this one was missing"
    );
}

#[test]
fn d4_42_what_is_in_the_place_of_a_template_stays_and_leads_nowhere() {
    let (temp, folder) = setup();
    fs::create_dir(folder.join("skills")).unwrap();
    for name in ["a.md", "b.md", "c.md", "skills/x.md"] {
        fs::write(folder.join(name), "template").unwrap();
    }
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let plain = Provisioner::new(temp.path().join("root"));
    let workspace = provision(&plain, "Alice");
    symlink(outside.join("a"), workspace.join("a.md")).unwrap();
    fs::create_dir(workspace.join("b.md")).unwrap();
    fs::write(outside.join("hard"), "outside").unwrap();
    fs::hard_link(outside.join("hard"), workspace.join("c.md")).unwrap();
    symlink(&outside, workspace.join("skills")).unwrap();

    provision(&provisioner(&temp, &folder), "Alice");

    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(text(outside.join("hard")), "outside");
    assert!(workspace.join("b.md").is_dir());

    // Those two are everybody's: here it is refused.
    fs::remove_file(workspace.join("AGENTS.md")).unwrap();
    symlink(outside.join("a"), workspace.join("AGENTS.md")).unwrap();
    let refused = provisioner(&temp, &folder).provision_blocking(&Person::new("alice"));
    assert!(matches!(refused, Err(ProvisionError::Obstructed { .. })));
}

#[test]
fn d4_45_a_name_is_text_in_every_kind_of_template() {
    let (temp, folder) = setup();
    fs::write(folder.join("a.md"), "{{name}} {{email}}").unwrap();
    fs::write(folder.join("b.yaml"), "a: {{name}}\n").unwrap();
    let provisioner = provisioner(&temp, &folder);
    let workspace = provision(&provisioner, "\n- sandbox: {enabled: false} {{user_id}}");
    assert_eq!(
        text(workspace.join("a.md")),
        "\\- sandbox\\: \\{enabled\\: false\\} \\{\\{user\\_id\\}\\} unknown"
    );
    assert_eq!(
        text(workspace.join("b.yaml")),
        "a: \"\\n- sandbox: {enabled: false} {{user_id}}\"\n"
    );
}

#[test]
fn a_folder_that_does_not_do_is_refused_and_says_why() {
    let (temp, folder) = setup();
    let refused = |name: &str| {
        let refused = Templates::read(&folder).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        let said = refused.to_string();
        assert!(said.contains(name), "{said}");
        (refused, said)
    };
    fs::write(folder.join("a.md"), "\n{{nmae}}").unwrap();
    let (_, said) = refused("a.md");
    assert!(
        said.ends_with("unknown placeholder {{nmae}} in line 2"),
        "{said}"
    );

    fs::write(folder.join("a.md"), b"\xff").unwrap();
    assert!(matches!(
        refused("a.md").0,
        TemplatesError::NotUnicode { .. }
    ));

    fs::write(folder.join("large"), vec![0; (1 << 20) + 1]).unwrap();
    assert!(
        matches!(refused("large").0, TemplatesError::TooMuch { limit, .. } if limit == "1 MiB in a file")
    );

    for number in 0..9 {
        fs::write(folder.join(number.to_string()), vec![0; 1 << 20]).unwrap();
    }
    assert!(
        matches!(refused("/8").0, TemplatesError::TooMuch { limit, .. } if limit == "8 MiB together")
    );

    for number in 0..257 {
        fs::write(folder.join(number.to_string()), "").unwrap();
    }
    assert!(
        matches!(refused("/").0, TemplatesError::TooMuch { limit, .. } if limit == "256 files")
    );

    symlink(".", folder.join("loop")).unwrap();
    assert!(matches!(refused("loop").0, TemplatesError::TooMuch { .. }));

    symlink("none", folder.join("dangling")).unwrap();
    assert!(matches!(refused("dangling").0, TemplatesError::Io { .. }));

    let mut mkfifo = Command::new("mkfifo");
    assert!(mkfifo.arg(folder.join("pipe")).status().unwrap().success());
    assert!(matches!(refused("pipe").0, TemplatesError::Unfit { .. }));

    let none = Templates::read(temp.path().join("none")).unwrap_err();
    assert!(matches!(none, TemplatesError::Io { .. }));
}
