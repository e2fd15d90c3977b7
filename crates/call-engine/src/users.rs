//! Who may register.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use sipora_auth::Secret;

use crate::{Answer, Error, Result, StoreError};

/// Finds the secrets of users.
///
/// [`Users`] is the one that the engine has by itself; a directory or database is another.
pub trait UserStore: Send + Sync + 'static {
    /// Gives the secret of a user of a served domain; `None` for somebody unknown.
    ///
    /// The domain is the realm of the challenge. Called inside the task that moves messages: what has to wait returns
    /// [`Answer::Later`].
    fn secret(&self, user: &str, domain: &str) -> Answer<Result<Option<Secret>, StoreError>>;
}

/// Holds users and their passwords, each a user of every served domain.
///
/// It may be changed while the engine runs: the next request is judged by what is there then.
///
/// ```
/// use sipora_call_engine::Users;
///
/// let users = Users::new();
/// users.add("alice", "wonderland")?;
/// assert!(users.contains("alice"));
/// assert!(users.remove("alice"));
/// # Ok::<(), sipora_call_engine::Error>(())
/// ```
#[derive(Default)]
pub struct Users {
    passwords: RwLock<Passwords>,
}

impl Users {
    /// Makes an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user, or gives one that is there a new password.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUser`] for an empty name or password, a name with a colon or `@`, and control characters, which no
    /// digest carries. Nothing is changed then.
    pub fn add(&self, name: &str, password: &str) -> Result<()> {
        let invalid = |reason| Error::InvalidUser {
            name: name.to_owned(),
            reason,
        };
        check(name, password).map_err(invalid)?;
        self.write().insert(name.into(), password.into());
        Ok(())
    }

    /// Removes a user and says whether there was one. Bindings stay until they expire or are removed.
    pub fn remove(&self, name: &str) -> bool {
        self.write().remove(name).is_some()
    }

    /// Says whether there is such a user.
    pub fn contains(&self, name: &str) -> bool {
        self.read().contains_key(name)
    }

    /// Returns the number of users.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the users of a file: `user:password` a line.
    ///
    /// The first colon ends the name, which spaces around it do not belong to; everything after the colon is the password,
    /// spaces included. Lines that are empty or begin with `#` are skipped. Either the whole file is taken or nothing.
    /// Blocks while it reads.
    ///
    /// # Errors
    ///
    /// [`Error::UsersFile`] when it cannot be read, [`Error::UsersLine`] with the first line that is wrong: no colon, an
    /// empty name or password, a name with `@`, a user that an earlier line of the file has, or bytes that are not UTF-8.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<usize> {
        let loaded = read(path.as_ref())?;
        let count = loaded.len();
        let mut passwords = self.write();
        if passwords.is_empty() {
            *passwords = loaded;
        } else {
            passwords.extend(loaded);
        }
        Ok(count)
    }

    /// Puts the users of a file in the place of all that are there: who is not in the file is a user no more.
    ///
    /// Bindings stay until they expire or are removed. Reads as [`load`](Self::load) does, and blocks as long.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). Nothing is changed then.
    pub fn reload(&self, path: impl AsRef<Path>) -> Result<usize> {
        let loaded = read(path.as_ref())?;
        let count = loaded.len();
        *self.write() = loaded;
        Ok(count)
    }

    // A thread that panicked under the lock left the map whole.
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Passwords> {
        self.passwords
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Passwords> {
        self.passwords
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserStore for Users {
    fn secret(&self, user: &str, _domain: &str) -> Answer<Result<Option<Secret>, StoreError>> {
        Answer::Now(Ok(self
            .read()
            .get(user)
            .map(|password| Secret::password(password.clone()))))
    }
}

/// Shows how many there are, and none of them.
impl std::fmt::Debug for Users {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Users")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

type Passwords = HashMap<Box<str>, Box<str>>;

fn read(path: &Path) -> Result<Passwords> {
    let bytes = fs::read(path).map_err(|source| Error::UsersFile {
        path: path.to_owned(),
        source,
    })?;
    parse(&bytes).map_err(|(line, reason)| Error::UsersLine {
        path: path.to_owned(),
        line,
        reason,
    })
}

fn parse(bytes: &[u8]) -> Result<Passwords, (usize, String)> {
    // Editors on Windows begin a file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // A line has some twenty bytes; to grow step by step would hash every name several times.
    let mut users = Passwords::with_capacity(bytes.len() / 20);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |reason: &str| (index + 1, reason.to_owned());
        let Some((name, password)) = entry(line).map_err(wrong)? else {
            continue;
        };
        check(name, password).map_err(wrong)?;
        if users.insert(name.into(), password.into()).is_some() {
            let is_first =
                |line: &[u8]| matches!(entry(line), Ok(Some((first, _))) if first == name);
            let first = bytes.split(|byte| *byte == b'\n').position(is_first);
            let first = first.map_or(0, |index| index + 1);
            return Err(wrong(&format!(
                "the user {name:?} is on line {first} already"
            )));
        }
    }
    Ok(users)
}

/// Takes a line apart; `None` for one that is empty or a comment.
fn entry(line: &[u8]) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    let content = line.trim_start();
    if content.is_empty() || content.starts_with('#') {
        return Ok(None);
    }
    let (name, password) = content
        .split_once(':')
        .ok_or("no colon; a line is user:password")?;
    Ok(Some((name.trim_end(), password)))
}

fn check(name: &str, password: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name is empty");
    }
    if password.is_empty() {
        return Err("the password is empty");
    }
    if name.contains(['@', ':']) {
        return Err("a name has no @ and no colon; a user belongs to every domain that is served");
    }
    if name
        .bytes()
        .chain(password.bytes())
        .any(|byte| byte.is_ascii_control())
    {
        return Err("control characters in the name or the password");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_line(text: &[u8]) -> (usize, String) {
        parse(text).unwrap_err()
    }

    #[test]
    fn comments_blank_lines_and_foreign_line_ends_are_read() {
        let text = b"\xef\xbb\xbf# staff\r\nalice:wonder:land \r\n\n  # more\nbob: x\ncarol:z";
        let users = parse(text).unwrap();
        assert_eq!(users.len(), 3);
        assert_eq!(&*users["alice"], "wonder:land ");
        assert_eq!(&*users["bob"], " x");
    }

    #[test]
    fn an_error_names_the_line_and_never_the_password() {
        for (text, line) in [
            (&b"alice:a\nbob\n"[..], 2),
            (b"\n\n:x", 3),
            (b"a:", 1),
            (b"a:x\n#\na:secret", 3),
            (b"a@example.com:secret", 1),
            (b"a:x\nb:\xff", 2),
            (b"a:x\x07", 1),
        ] {
            let (found, reason) = wrong_line(text);
            assert_eq!(found, line, "{reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn a_users_list_never_shows_its_passwords() {
        let users = Users::new();
        users.add("alice", "swordfish").unwrap();
        assert!(!format!("{users:?}").contains("swordfish"));
    }

    #[test]
    fn a_file_that_is_read_again_replaces_everybody_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, "alice:one\nbob:two\n").unwrap();
        let users = Users::new();
        assert_eq!(users.load(&path).unwrap(), 2);
        fs::write(&path, "alice:new\nbroken\n").unwrap();
        assert!(matches!(
            users.reload(&path),
            Err(Error::UsersLine { line: 2, .. })
        ));
        assert!(users.contains("bob"));
        assert_eq!(&*users.read()["alice"], "one");
        fs::write(&path, "alice:new\n").unwrap();
        assert_eq!(users.reload(&path).unwrap(), 1);
        assert!(!users.contains("bob"));
        assert_eq!(&*users.read()["alice"], "new");
    }

    #[test]
    fn a_password_changed_or_a_user_removed_takes_effect() {
        let users = Users::new();
        assert!(users.add("", "x").is_err());
        users.add("alice", "one").unwrap();
        users.add("alice", "two").unwrap();
        assert_eq!(users.len(), 1);
        assert!(users.remove("alice"));
        assert!(!users.remove("alice"));
        assert!(users.is_empty());
    }
}
