//! Environments that cannot be made, because a disk or an instance is not as it should be, and environments of people whose
//! ids are odd: each through a running gateway, with the real OpenClaw behind it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; the times are for people"
)]

mod disk;
mod doors;
mod instance;
mod odd_ids;
mod world;

use std::{env, process::Command};

use gateway_tests::error::Result;
use rustix::process::geteuid;
use world::World;

/// The test of this program that is run apart.
const APART: &str = "apart";

/// Everything is tried in a process with mounts of its own, which go with it, and for whose root the bits of a mode hold as
/// they do for everybody else.
#[test]
fn d4_40_d4_44_who_has_an_odd_id_or_comes_to_a_bad_disk_has_a_whole_environment_or_none() {
    let mut apart = Command::new("unshare");
    apart.arg(if geteuid().is_root() { "-m" } else { "-rm" });
    apart.args(["--propagation", "private", "--"]);
    apart.args([
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
        "--",
    ]);
    let program = env::current_exe().expect("this program");
    apart.arg(program);
    apart.args(["--exact", APART, "--ignored", "--nocapture"]);
    let ended = apart.status().expect("unshare, of util-linux");
    assert!(
        ended.success(),
        "it failed above; where nobody may mount a small file system it cannot be run"
    );
}

/// One gateway and one instance for all that is tried, since they take longer to start than most of it takes to try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, where it may mount"]
async fn apart() -> Result<()> {
    let mut world = World::start().await?;
    world.say("all is there");
    disk::tried(&mut world).await?;
    world.say("disks were tried");
    instance::tried(&mut world).await?;
    world.say("the instance was tried");
    world.who_was_let_in_chats().await?;
    world.say("who was let in has chatted");
    // At last: with many agents each change takes the instance longer.
    odd_ids::tried(&world).await?;
    world.say("odd ids were tried");
    Ok(())
}
