//! Where a process belongs, by /proc/PID: its login, its cgroup, and what the users of its own root call it.
//!
//! A name out of another root than the tracer's is only as good as who gave the process that root. Whoever has a user namespace
//! of his own may have any root, with a passwd that calls him `root`; so only in the tracer's user namespace, where that takes
//! privileges, is another root's passwd believed.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::Read,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use foldhash::fast::FixedState;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::stamp::{Stamp, stamp};
use crate::{
    model::{
        belongs::{Belongs, Container},
        cgroup::Placement,
        event::ProcessId,
    },
    sink::escape::escape,
    source::{passwd::Users, stat::Stat},
};

/// `/proc/PID/cgroup` has a line for each hierarchy, and a path is shorter than a page: bytes.
const CGROUP: u64 = 64 * 1024;
/// A passwd file of another root that is larger than this is left unread: bytes.
const PASSWD: u64 = 256 * 1024;
/// Other roots whose users are remembered; past that all are forgotten.
const ROOTS: usize = 32;
/// Answers that are remembered, so that processes share them; past that all are forgotten.
const SHARED: usize = 1024;
/// What `/proc/PID/loginuid` and `sessionid` say where nobody logged in.
const UNSET: u32 = u32::MAX;

/// Where a process belongs, and who it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it belongs.
    pub belongs: Arc<Belongs>,
    /// A user id, and the name that the process's own root has for it, escaped; nothing where the tracer's own root names
    /// the users of the process too.
    pub user: Option<(u32, Option<Arc<str>>)>,
}

/// Reads where processes belong, and remembers what many of them share.
#[derive(Debug, Default)]
pub struct Places {
    /// The users of the tracer's own root.
    own: Passwd,
    /// `own` was read anew since it was asked for.
    is_new: bool,
    /// The users of other roots, by device and inode of their passwd.
    others: HashMap<(u64, u64), Passwd, FixedState>,
    shared: HashSet<Arc<Belongs>, FixedState>,
}

/// The users of a passwd file, and which state of the file they are of.
#[derive(Clone, Debug, Default)]
struct Passwd {
    stamp: Option<Stamp>,
    users: Arc<Users>,
}

impl Places {
    /// Looks at a process, which acts as the user `uid`; nothing when it is gone.
    pub fn find(&mut self, id: ProcessId, uid: u32) -> Option<Place> {
        self.refresh();
        let folder = PathBuf::from(format!("/proc/{}", id.pid));
        let belongs = self.belongs(&folder);
        let user = self.user(&folder, uid);
        // Looked at last: when it is still the same process then, all of the above was its own.
        let lives = Stat::of(id).is_some();
        lives.then(|| Place { belongs: self.share(belongs), user })
    }

    /// The users of the tracer's own root, where they were read since this was asked last.
    pub fn take_users(&mut self) -> Option<Arc<Users>> {
        std::mem::take(&mut self.is_new).then(|| Arc::clone(&self.own.users))
    }

    /// Reads the tracer's own passwd where it has changed.
    fn refresh(&mut self) {
        let now = fs::metadata("/etc/passwd").ok().map(|file| stamp(&file));
        if now.is_some() && now != self.own.stamp {
            let users = Arc::new(Users::parse(&fs::read("/etc/passwd").unwrap_or_default()));
            self.own = Passwd { stamp: now, users };
            self.is_new = true;
        }
    }

    fn belongs(&self, folder: &Path) -> Belongs {
        let mut text = Vec::new();
        if let Ok(file) = File::open(folder.join("cgroup")) {
            // Where that breaks off, so does the text, and the lines that are there count.
            let _ = file.take(CGROUP).read_to_end(&mut text);
        }
        let Placement { path, unit, user_unit, container } = Placement::parse(&text);
        let login_uid = number(&folder.join("loginuid"));
        let login_user = login_uid.and_then(|uid| self.own.users.name(uid));
        Belongs {
            login_uid,
            login_user: login_user.map(|name| escape(name.as_bytes())),
            session: number(&folder.join("sessionid")),
            cgroup: path.map(escape),
            unit: unit.map(|unit| escape(unit.as_bytes())),
            user_unit: user_unit.map(|unit| escape(unit.as_bytes())),
            container: container.map(|found| Container { id: escape(&found.id), runtime: found.runtime }),
        }
    }

    /// What the process's root calls a user, where that is another root with users of its own. One without a passwd, as
    /// most programs that lock themselves in have it, has the names of the tracer's.
    fn user(&mut self, folder: &Path, uid: u32) -> Option<(u32, Option<Arc<str>>)> {
        let namespace = |folder: &Path| fs::read_link(folder.join("ns/user")).ok();
        if namespace(folder) != namespace(Path::new("/proc/self")) {
            return None;
        }
        let passwd = passwd_of(&folder.join("root"))?;
        let now = stamp(&passwd.metadata().ok()?);
        if Some(now) == self.own.stamp {
            return None;
        }
        let (device, inode, ..) = now;
        let known = self.others.get(&(device, inode)).filter(|known| known.stamp == Some(now));
        let users = match known {
            Some(known) => Arc::clone(&known.users),
            None => {
                let users = Arc::new(read_users(&passwd)?);
                if self.others.len() >= ROOTS {
                    self.others.clear();
                }
                let known = Passwd { stamp: Some(now), users: Arc::clone(&users) };
                self.others.insert((device, inode), known);
                users
            }
        };
        Some((uid, users.name(uid).map(|name| escape(name.as_bytes()).into())))
    }

    fn share(&mut self, belongs: Belongs) -> Arc<Belongs> {
        if let Some(known) = self.shared.get(&belongs) {
            return Arc::clone(known);
        }
        if self.shared.len() >= SHARED {
            self.shared.clear();
        }
        let belongs = Arc::new(belongs);
        self.shared.insert(Arc::clone(&belongs));
        belongs
    }
}

/// The passwd of a root, found as the root's own processes find it. It is not opened for reading: it may be anything, a device
/// too, until it was looked at.
fn passwd_of(root: &Path) -> Option<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(&root, "etc/passwd", flags, Mode::empty(), inside).ok().map(File::from)
}

/// The users of a file that was found; nothing where it is no file, or too large.
fn read_users(found: &File) -> Option<Users> {
    found.metadata().ok().filter(|file| file.is_file() && file.len() <= PASSWD)?;
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    let mut text = Vec::new();
    file.take(PASSWD).read_to_end(&mut text).ok()?;
    Some(Users::parse(&text))
}

/// A number that says who logged in; nothing where nobody did.
fn number(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim_end().parse().ok().filter(|number| *number != UNSET)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::FileType;

    use super::*;
    use crate::source::stat::TICK;

    fn own_id() -> ProcessId {
        let pid = std::process::id();
        ProcessId { pid, started: Stat::read(pid).unwrap().started * TICK }
    }

    fn names(root: &Path) -> Option<Users> {
        read_users(&passwd_of(root)?)
    }

    /// A root with this text as its passwd.
    fn root(passwd: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        root
    }

    #[test]
    fn this_very_process_belongs_where_proc_says() {
        let text = fs::read("/proc/self/cgroup").unwrap_or_default();
        let placement = Placement::parse(&text);
        let mut places = Places::default();
        let place = places.find(own_id(), 0).unwrap();
        assert_eq!(place.belongs.cgroup, placement.path.map(escape));
        assert_eq!(place.belongs.unit, placement.unit.map(|unit| escape(unit.as_bytes())));
        assert_eq!(place.belongs.container.is_some(), placement.container.is_some());
        let login = fs::read_to_string("/proc/self/loginuid").ok();
        let told = place.belongs.login_uid.unwrap_or(UNSET).to_string();
        assert!(login.is_none_or(|login| login.trim_end() == told));
        assert_eq!(place.user, None, "its root is the tracer's");
    }

    #[test]
    fn processes_of_one_place_share_what_is_known_of_it() {
        let mut places = Places::default();
        let (one, other) = (places.find(own_id(), 0).unwrap(), places.find(own_id(), 1).unwrap());
        assert!(Arc::ptr_eq(&one.belongs, &other.belongs));
    }

    #[test]
    fn what_is_gone_or_has_its_pid_from_another_is_nowhere() {
        let mut places = Places::default();
        assert_eq!(places.find(ProcessId { pid: u32::MAX, started: 0 }, 0), None);
        assert_eq!(places.find(ProcessId { started: 1, ..own_id() }, 0), None);
    }

    #[test]
    fn the_users_of_the_own_root_are_given_once_and_again_when_they_change() {
        let mut places = Places::default();
        assert!(places.find(own_id(), 0).is_some());
        let expected = Users::parse(&fs::read("/etc/passwd").unwrap_or_default());
        assert!(places.take_users().is_none_or(|users| *users == expected));
        places.find(own_id(), 0);
        assert!(places.take_users().is_none());
    }

    #[test]
    fn a_root_names_its_own_users() {
        let root = root("postgres:x:999:\n");
        assert_eq!(names(root.path()).unwrap().name(999), Some("postgres"));
    }

    #[test]
    fn a_link_in_a_root_does_not_lead_out_of_it() {
        let (root, outside) = (root("inside:x:7:\n"), root("outside:x:7:\n"));
        let passwd = root.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        symlink(outside.path().join("etc/passwd"), &passwd).unwrap();
        assert_eq!(names(root.path()), None);
        fs::remove_file(&passwd).unwrap();
        symlink("/../../etc/users", &passwd).unwrap();
        fs::write(root.path().join("etc/users"), "linked:x:7:\n").unwrap();
        assert_eq!(names(root.path()).unwrap().name(7), Some("linked"));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_left_unread() {
        let root = root(&"x".repeat(PASSWD as usize + 1));
        let passwd = root.path().join("etc/passwd");
        assert_eq!(names(root.path()), None);
        fs::remove_file(&passwd).unwrap();
        assert!(passwd_of(root.path()).is_none());
        // Opening a pipe to read it would wait for a writer.
        rustix::fs::mknodat(CWD, &passwd, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(names(root.path()), None);
        assert_eq!(names(Path::new("/nowhere")), None);
    }
}
