//! Look-ups in roots that are made for it. What each database's format asks for is tested beside it.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;

/// A root in a folder of its own.
pub(super) struct Made(tempfile::TempDir);

impl Made {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn root(&self) -> Root {
        Root::open(self.0.path()).unwrap()
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn link(&self, link: &str, target: &str) {
        fs::create_dir_all(self.path(link).parent().unwrap()).unwrap();
        symlink(target, self.path(link)).unwrap();
    }

    /// A Debian package with one file.
    pub(super) fn debian(&self, name: &str, path: &str, content: &str) {
        let status = self.path("var/lib/dpkg/status");
        let before = fs::read_to_string(&status).unwrap_or_default();
        let stanza = format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n\n");
        self.write("var/lib/dpkg/status", before + &stanza);
        self.write(&format!("var/lib/dpkg/info/{name}.list"), format!("/.\n{path}\n"));
        let sum = format!("{}  {}\n", md5(content), &path[1..]);
        self.write(&format!("var/lib/dpkg/info/{name}.md5sums"), sum);
        self.write(path, content);
    }

    pub(super) fn ask(&self, packages: &mut Packages, path: &str) -> Package {
        packages.look_up(&self.root(), path.as_bytes(), File::open(self.path(path)).ok())
    }
}

pub(super) fn md5(content: &str) -> String {
    use sha2::Digest as _;
    md5::Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the databases of another root say.
pub(super) fn owned(name: &str, state: Shipped) -> Package {
    Package::Owned { name: name.to_owned(), state, believed: false }
}

#[test]
fn a_root_without_a_database_says_nothing() {
    let made = Made::new();
    made.write("usr/bin/one", "x");
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/one"), Package::Unknown);
}

#[test]
fn a_byte_that_was_changed_in_place_is_seen() {
    let made = Made::new();
    made.debian("one", "/usr/bin/one", "program");
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/usr/bin/one"), owned("one", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/usr/bin/other"), Package::None);
    let inode = fs::metadata(made.path("usr/bin/one")).unwrap().ino();
    fs::write(made.path("usr/bin/one"), "Program").unwrap();
    assert_eq!(fs::metadata(made.path("usr/bin/one")).unwrap().ino(), inode);
    assert_eq!(made.ask(&mut packages, "/usr/bin/one"), owned("one", Shipped::Modified));
    // The file that runs is not the one at the path.
    let gone = packages.look_up(&made.root(), b"/usr/bin/one", None);
    assert_eq!(gone, owned("one", Shipped::Unverified));
}

#[test]
fn what_was_found_is_found_again_without_reading_and_until_the_database_changes() {
    let made = Made::new();
    made.debian("one", "/usr/bin/one", "program");
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/usr/bin/one"), owned("one", Shipped::Intact));
    assert!(packages.is_awake());
    packages.rest();
    assert_eq!(made.ask(&mut packages, "/usr/bin/one"), owned("one", Shipped::Intact));
    assert!(!packages.is_awake());
    made.write("usr/bin/two", "program");
    assert_eq!(made.ask(&mut packages, "/usr/bin/two"), Package::None);
    made.debian("two", "/usr/bin/two", "program");
    assert_eq!(made.ask(&mut packages, "/usr/bin/two"), owned("two", Shipped::Intact));
}

#[test]
fn of_two_databases_the_one_that_owns_the_file_answers() {
    let made = Made::new();
    made.debian("one", "/usr/bin/one", "program");
    made.write("usr/bin/two", "x");
    made.write("lib/apk/db/installed", "P:two\nF:usr/bin\nR:two\n");
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/usr/bin/one"), owned("one", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/usr/bin/two"), owned("two", Shipped::Unverified));
    assert_eq!(made.ask(&mut packages, "/usr/bin/three"), Package::None);
}

#[test]
fn where_one_database_cannot_be_read_nobody_is_said_to_own_nothing() {
    let made = Made::new();
    made.debian("one", "/usr/bin/one", "program");
    for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
        made.write(&format!("var/lib/rpm/{name}"), "what is this? ".repeat(100));
        let mut packages = Packages::default();
        assert_eq!(made.ask(&mut packages, "/usr/bin/one"), owned("one", Shipped::Intact));
        assert_eq!(made.ask(&mut packages, "/usr/bin/two"), Package::Unknown);
        fs::remove_file(made.path(&format!("var/lib/rpm/{name}"))).unwrap();
    }
}

#[test]
fn names_are_escaped() {
    let made = Made::new();
    made.write("lib/apk/db/installed", "P:a\x1b[31m\nF:usr/bin\nR:one\n");
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/one"), owned("a\\x1b[31m", Shipped::Unverified));
}

#[test]
fn no_more_roots_are_kept_than_there_is_room_for() {
    let roots: Vec<_> = (0..ROOTS + 2).map(|_| Made::new()).collect();
    let mut packages = Packages::default();
    for made in &roots {
        made.ask(&mut packages, "/usr/bin/one");
    }
    assert_eq!(packages.roots.len(), ROOTS);
    let kept = roots.last().unwrap().root().id().unwrap();
    assert_eq!(packages.roots.last().unwrap().id, kept);
}

#[test]
fn a_database_of_alpine_is_read() {
    let made = Made::new();
    // SHA-1 of "abc" in base64.
    let installed = "C:Q1x\nP:busybox\nV:1\nF:\nR:.hidden\nZ:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\nF:bin\nM:0:0:755\nR:busybox\n\
                     a:0:0:755\nZ:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\nR:other\nF:etc\n\nP:sshd\nF:usr/sbin\nR:sshd\n\
                     Z:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
    made.write("lib/apk/db/installed", installed);
    made.write("bin/busybox", "abc");
    made.write(".hidden", "abc");
    made.write("usr/sbin/sshd", "abd");
    made.write("bin/other", "abc");
    let mut packages = Packages::default();
    for (path, package) in [
        ("/bin/busybox", owned("busybox", Shipped::Intact)),
        ("/.hidden", owned("busybox", Shipped::Intact)),
        ("/bin/other", owned("busybox", Shipped::Unverified)),
        ("/usr/sbin/sshd", owned("sshd", Shipped::Modified)),
        ("/bin/none", Package::None),
        ("/etc", Package::None),
    ] {
        assert_eq!(made.ask(&mut packages, path), package, "{path}");
    }
}

#[test]
fn a_merged_alpine_keeps_its_database_elsewhere() {
    let made = Made::new();
    made.link("bin", "usr/bin");
    made.write("usr/lib/apk/db/installed", "P:busybox\nF:bin\nR:busybox\n");
    let found = made.ask(&mut Packages::default(), "/usr/bin/busybox");
    assert_eq!(found, owned("busybox", Shipped::Unverified));
}
