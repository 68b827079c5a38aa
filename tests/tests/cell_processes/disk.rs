//! A cell whose disk is full: by size, as root can make one.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gateway_tests::{
    error::{Error, Result},
    ledger::{record_of, settled},
    person::Person,
};
use tokio::time::{Instant, sleep};

use crate::world::{PATIENCE, World, open};

/// A file system of its own, as long as this is held.
struct Disk(PathBuf);

// === impl Disk ===

impl Disk {
    /// `None` where nobody may mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        DirBuilder::new()
            .mode(0o711)
            .create(at)
            .expect("a directory");
        let options = format!("size={size},mode=711");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "none"], at);
        mounted.then(|| Self(at.to_owned()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(mount(&["-o", &options], &self.0), "{options}");
    }

    /// Takes all the room that there is, until the file is removed.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still uses it keeps it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mounted = Command::new("mount").args(arguments).arg(at).status();
    mounted.is_ok_and(|status| status.success())
}

/// Somebody's cell cannot start for want of room, is told of, and starts when there is some; runs out of it while it is used,
/// and goes on when there is some again.
pub(crate) async fn is_full(world: &World, name: &str) -> Result<()> {
    let Some(disk) = Disk::mount(&world.cell(name), "256k") else {
        println!("not tested: nobody may mount a small disk here");
        return Ok(());
    };
    let (person, user) = (world.person(name).await?, world.user(name));
    let deadline = Instant::now() + PATIENCE;
    let failure = loop {
        assert!(person.open().await.is_err(), "there is no room for it");
        let process = world.instance(name).await?["process"].clone();
        if let Some(failure) = process["lastFailure"].as_str() {
            break failure.to_owned();
        }
        if Instant::now() > deadline {
            return Err(Error::Late(PATIENCE, process.to_string()));
        }
        sleep(Duration::from_millis(500)).await;
    };
    println!("without room: {failure}");
    assert!(
        failure.contains("it has ended") && failure.contains("it said last"),
        "{failure}"
    );

    disk.resize("300m");
    let mut socket = open(&person).await?;
    let turn = socket.turn(&format!("there is room for {user}")).await?;
    assert_eq!(turn.state, "final", "{}", turn.text);

    let filler = disk.fill();
    let turn = socket.turn(&format!("there is none for {user}")).await;
    println!("without room while it runs: {turn:?}");
    fs::remove_file(filler).expect("it is there");
    drop(socket);
    goes_on(&person, &format!("there is room again for {user}")).await?;
    let calls = world.kit.provider().calls_about(&user).await?;
    let records = settled(world.dir.path(), &user, calls.len()).await?;
    let recorded = calls
        .iter()
        .filter(|call| record_of(call, &records).is_some());
    assert_eq!(recorded.count(), calls.len(), "{records:#?}");
    Ok(())
}

async fn goes_on(person: &Person, message: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut socket = open(person).await?;
        let turn = socket.turn(message).await;
        match turn {
            Ok(turn) if turn.state == "final" => return Ok(()),
            other if Instant::now() > deadline => {
                return Err(Error::Late(PATIENCE, format!("{other:?}")));
            }
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
}
