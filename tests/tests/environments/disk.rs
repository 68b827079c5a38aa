//! A disk that is full, read-only, forbidden or broken while somebody's directory is made.

use gateway_tests::{error::Result, person::Person, storage::Fault};
use rustix::fs::statvfs;
use serde_json::json;

use crate::{
    doors::{all_refuse, refuses_to_initialize},
    world::World,
};

/// What is wrong, how it is mended, and what the operator's log says of it: what the system says, and what to do.
struct Trouble {
    name: &'static str,
    inflict: fn(&World),
    mend: fn(&World),
    cause: &'static str,
    remedy: &'static str,
}

const TROUBLES: [Trouble; 6] = [
    Trouble {
        name: "full",
        inflict: |world| drop(world.fill()),
        mend: World::free,
        cause: "No space left on device",
        remedy: "make room below workspace.root",
    },
    Trouble {
        name: "read-only",
        inflict: |world| world.remount("ro"),
        mend: |world| world.remount("rw"),
        cause: "Read-only file system",
        remedy: "mount the file system of workspace.root read-write",
    },
    Trouble {
        name: "forbidden",
        inflict: |world| world.set_mode(0o511),
        mend: |world| world.set_mode(0o711),
        cause: "Permission denied",
        remedy: "let the user that the gateway runs as read, write and enter workspace.root",
    },
    Trouble {
        name: "invisible",
        inflict: |world| world.set_mode(0o000),
        mend: |world| world.set_mode(0o711),
        cause: "Permission denied",
        remedy: "let the user that the gateway runs as read, write and enter workspace.root",
    },
    Trouble {
        name: "everybodys",
        inflict: |world| world.set_mode(0o777),
        mend: |world| world.set_mode(0o711),
        cause: "is writable by everybody",
        remedy: "let nobody but root and the gateway write to workspace.root",
    },
    Trouble {
        name: "failing",
        inflict: |world| world.storage.set(Some(Fault::Unsyncable)).expect("a fault"),
        mend: |world| world.storage.set(None).expect("no fault"),
        cause: "Input/output error",
        remedy: "the disk below workspace.root fails",
    },
];

pub(crate) async fn tried(world: &mut World) -> Result<()> {
    let (person, whole) = world.newcomer("whole").await?;
    world.let_in(&person, &whole).await?;
    for trouble in &TROUBLES {
        let (newcomer, user) = world.newcomer(trouble.name).await?;
        let agents = world.agents().await?;
        // Nothing has changed since they were here.
        person.open().await?;
        let before = world.gateway.log()?.len();
        (trouble.inflict)(world);
        all_refuse(world, &newcomer, trouble.name).await?;
        // Who has an environment already works on in it.
        person.open().await?;
        assert_eq!(world.agents().await?, agents, "{}", trouble.name);
        assert_none(world, &user).await?;
        let (log, _) = world.log_since(before)?;
        for said in [trouble.cause, trouble.remedy] {
            assert!(log.contains(said), "{}: {said}:\n{log}", trouble.name);
        }
        (trouble.mend)(world);
        world.let_in(&newcomer, &user).await?;
    }
    world.say("each kind of trouble was mended");
    room_comes_back_bit_by_bit(world).await?;
    who_is_there_needs_no_writing(world).await
}

/// That nothing of somebody counts as an environment.
async fn assert_none(world: &World, user: &str) -> Result<()> {
    assert_eq!(world.stored(user), None, "{user}");
    assert_eq!(world.keys(user), 0, "{user}");
    // Where it cannot be looked at, nothing is there either.
    assert!(!world.profile(user).exists(), "{user}");
    Ok(())
}

/// At whichever step the disk is full, of blocks or of inodes, there is no environment, until there is a whole one.
async fn room_comes_back_bit_by_bit(world: &mut World) -> Result<()> {
    let (person, user) = world.newcomer("blocks").await?;
    let filler = world.fill();
    let mut size = filler.metadata().expect("the filler").len();
    let mut refused = 0;
    while person
        .post("/api/openclaw/initialize", &json!({}))
        .await?
        .status
        != 200
    {
        refuses_to_initialize(world, &person, "blocks").await?;
        assert_none(world, &user).await?;
        refused += 1;
        assert!(refused < 20, "there is room by now");
        size -= 4096;
        filler.set_len(size).expect("a smaller filler");
    }
    assert!(refused > 2, "{refused} blocks were missing");
    drop(filler);
    world.free();
    world.let_in(&person, &user).await?;

    let (person, user) = world.newcomer("inodes").await?;
    let there = statvfs(&world.root).expect("a file system");
    let mut inodes = there.f_files - there.f_ffree;
    world.remount(&format!("nr_inodes={inodes}"));
    let mut refused = 0;
    while person
        .post("/api/openclaw/initialize", &json!({}))
        .await?
        .status
        != 200
    {
        refuses_to_initialize(world, &person, "inodes").await?;
        assert_none(world, &user).await?;
        refused += 1;
        assert!(refused < 30, "there is room by now");
        inodes += 1;
        world.remount(&format!("nr_inodes={inodes}"));
    }
    assert!(refused > 7, "{refused} inodes were missing");
    world.remount("nr_inodes=10000");
    world.let_in(&person, &user).await?;
    world.say("room has come back bit by bit");
    Ok(())
}

/// A gateway that has just started looks at the directory of who comes, and writes nothing where all is right.
async fn who_is_there_needs_no_writing(world: &mut World) -> Result<()> {
    let (person, user) = world.newcomer("settled").await?;
    world.let_in(&person, &user).await?;
    // The instance writes into the directory, too, when its agent is first spoken to.
    chats(&person).await?;
    for trouble in TROUBLES.iter().take(2) {
        (trouble.inflict)(world);
        world.gateway.restart().await?;
        chats(&person).await?;
        (trouble.mend)(world);
    }
    world.say("who is settled works on a disk that takes nothing");
    Ok(())
}

async fn chats(person: &Person) -> Result<()> {
    let turn = person.open().await?.turn("hello").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    Ok(())
}
