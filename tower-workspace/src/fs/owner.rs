use std::{fs, io};

use thiserror::Error;

/// Whom the files of a workspace belong to: the user and group the instance runs as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Why there is no such [`Owner`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// Number 4294967295 stands for "unchanged" in the system's interfaces and is nobody.
    #[error("4294967295 is not a user or group id")]
    Reserved,
    /// `/etc/passwd` has no such user.
    #[error("no user named {name:?} in /etc/passwd")]
    Unknown {
        /// The name that was looked for.
        name: String,
    },
    /// `/etc/passwd` cannot be read.
    #[error("cannot read /etc/passwd")]
    Io(#[from] io::Error),
}

// === impl Owner ===

impl Owner {
    /// The owner with these numbers.
    ///
    /// # Errors
    ///
    /// [`OwnerError::Reserved`] if one of them is 4294967295.
    pub fn new(uid: u32, gid: u32) -> Result<Self, OwnerError> {
        if uid == u32::MAX || gid == u32::MAX {
            return Err(OwnerError::Reserved);
        }
        Ok(Self { uid, gid })
    }

    /// The user called `name` and their primary group, as `/etc/passwd` has them.
    ///
    /// Users that only a directory service knows are not found: name them by number.
    ///
    /// # Errors
    ///
    /// [`OwnerError::Unknown`] if there is no such user, [`OwnerError::Io`] if the file cannot be
    /// read.
    pub fn of_user(name: &str) -> Result<Self, OwnerError> {
        // Bytes: somebody's full name in an old encoding must not hide everybody else.
        let passwd = fs::read("/etc/passwd")?;
        find(&String::from_utf8_lossy(&passwd), name).ok_or_else(|| OwnerError::Unknown {
            name: name.to_owned(),
        })
    }

    /// Number of the user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Number of the group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }
}

/// Lines are `name:password:uid:gid:…`, see passwd(5).
fn find(passwd: &str, name: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name || name.is_empty() {
            return None;
        }
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Owner::new(uid, gid).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        # a comment\n\
        +::::::\n\
        :x:7:7::/:\n\
        broken:x:no:1::/:\n\
        nobody:x:65534:65534::/:\n\
        openclaw:x:1001:1002:Open Claw:/home/openclaw:/usr/sbin/nologin\n\
        minus:x:4294967295:1::/:";

    #[test]
    fn finds_a_user_by_the_whole_name_only() {
        let find = |name| find(PASSWD, name).map(|owner| (owner.uid(), owner.gid()));
        assert_eq!(find("openclaw"), Some((1001, 1002)));
        assert_eq!(find("root"), Some((0, 0)));
        for name in ["open", "openclaw:x", "", "broken", "minus", "+", "1001"] {
            assert_eq!(find(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_number_that_means_unchanged_is_nobody() {
        assert!(Owner::new(u32::MAX, 0).is_err());
        assert!(Owner::new(0, u32::MAX).is_err());
        assert!(Owner::new(0, 0).is_ok());
    }
}
