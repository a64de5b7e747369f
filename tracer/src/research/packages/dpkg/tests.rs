use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Instant,
};

use super::{
    super::{
        Packages,
        tests::{Made, md5, owned},
    },
    *,
};
use crate::model::provenance::{Package, Shipped};

#[test]
fn a_package_of_which_configuration_alone_is_left_owns_nothing() {
    let made = Made::new();
    made.debian("one", "/usr/bin/one", "x");
    made.write("var/lib/dpkg/status", "Package: one\nStatus: deinstall ok config-files\n");
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/one"), Package::None);
}

#[test]
fn while_dpkg_unpacks_a_package_its_files_are_not_compared() {
    let made = Made::new();
    made.debian("one", "/usr/bin/one", "x");
    made.write(
        "var/lib/dpkg/updates/0000",
        "Package: one\nArchitecture: amd64\nStatus: install ok unpacked\n",
    );
    made.write("var/lib/dpkg/updates/tmp.i", "noise");
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/one"), owned("one", Shipped::Intact));
    let half = "Package: one\nArchitecture: amd64\nStatus: install reinstreq half-installed\n";
    made.write("var/lib/dpkg/updates/0001", half);
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/one"), owned("one", Shipped::Unverified));
}

#[test]
fn either_path_of_a_merged_folder_is_the_file() {
    let made = Made::new();
    made.write("usr/bin/keep", "");
    made.link("bin", "usr/bin");
    made.debian("coreutils", "/bin/ls", "x");
    made.debian("nginx", "/usr/bin/nginx", "x");
    // Not merged here.
    made.debian("libc", "/lib/ld.so", "x");
    let mut packages = Packages::default();
    for (path, package) in [
        ("/usr/bin/ls", "coreutils"),
        ("/bin/ls", "coreutils"),
        ("/bin/nginx", "nginx"),
        ("/usr/bin/nginx", "nginx"),
        ("/lib/ld.so", "libc"),
    ] {
        assert_eq!(made.ask(&mut packages, path), owned(package, Shipped::Intact), "{path}");
    }
    assert_eq!(made.ask(&mut packages, "/usr/lib/ld.so"), Package::None);
}

#[test]
fn a_diverted_file_is_its_package_s_where_it_was_put() {
    let made = Made::new();
    made.debian("perf", "/usr/bin/perf", "the program");
    made.debian("wrapper", "/usr/bin/perf", "the wrapper");
    made.write("usr/bin/perf.real", "the program");
    made.debian("local", "/usr/bin/tool", "the tool");
    made.write("usr/bin/tool.real", "the tool");
    made.write("usr/bin/tool", "my own");
    let diversions =
        "/usr/bin/perf\n/usr/bin/perf.real\nwrapper\n/usr/bin/tool\n/usr/bin/tool.real\n:\n/cut\n/off\n";
    made.write("var/lib/dpkg/diversions", diversions);
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/usr/bin/perf"), owned("wrapper", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/usr/bin/perf.real"), owned("perf", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/usr/bin/tool"), Package::None);
    assert_eq!(made.ask(&mut packages, "/usr/bin/tool.real"), owned("local", Shipped::Intact));
}

#[test]
fn a_configuration_file_is_compared_with_what_was_installed() {
    let made = Made::new();
    let status = format!(
        "Package: cron\nStatus: install ok installed\nConffiles:\n /etc/cron.daily/a b {}\n /etc/new newconffile\n",
        md5("script")
    );
    made.write("var/lib/dpkg/status", status);
    made.write("var/lib/dpkg/info/cron.list", "/etc/cron.daily/a b\n/etc/new\n");
    made.write("etc/cron.daily/a b", "script");
    made.write("etc/new", "script");
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/etc/cron.daily/a b"), owned("cron", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/etc/new"), owned("cron", Shipped::Unverified));
    made.write("etc/cron.daily/a b", "edited");
    assert_eq!(made.ask(&mut packages, "/etc/cron.daily/a b"), owned("cron", Shipped::Modified));
}

#[test]
fn a_package_of_several_architectures_is_found_by_its_name_and_told_without_them() {
    let made = Made::new();
    let status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n\n\
                  Package: libc6\nStatus: install ok installed\nArchitecture: i386\nMulti-Arch: same\n";
    made.write("var/lib/dpkg/status", status);
    made.write("var/lib/dpkg/info/libc6:amd64.list", "/lib64/ld.so\n");
    made.write("var/lib/dpkg/info/libc6:i386.list", "/lib/ld.so\n");
    let mut packages = Packages::default();
    for path in ["/lib64/ld.so", "/lib/ld.so"] {
        assert_eq!(made.ask(&mut packages, path), owned("libc6", Shipped::Unverified));
    }
}

#[test]
fn an_image_without_dpkg_has_a_file_of_each_package() {
    let made = Made::new();
    made.write("var/lib/dpkg/status.d/openssl", "Package: openssl\nVersion: 3\n");
    made.write("var/lib/dpkg/status.d/openssl.md5sums", format!("{}  usr/bin/openssl\n", md5("x")));
    made.write("usr/bin/openssl", "x");
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/usr/bin/openssl"), owned("openssl", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/usr/bin/other"), Package::None);
}

/// The regular files in folders of programs that may be run.
fn executables() -> Vec<String> {
    let folders = ["/usr/bin", "/usr/sbin"].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = folders.map(|entry| entry.unwrap().path());
    let is_program = |path: &std::path::PathBuf| {
        let metadata = fs::symlink_metadata(path).unwrap();
        metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
    };
    paths.filter(is_program).map(|path| path.into_os_string().into_string().unwrap()).collect()
}

/// Packages of each path.
type Owners = BTreeMap<Vec<u8>, BTreeSet<String>>;

/// What dpkg says: the packages of each path, and paths that were diverted, of which it says more than that.
fn by_dpkg(paths: &[String], merged: &Merged) -> (Owners, BTreeSet<Vec<u8>>) {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("-S").env("LC_ALL", "C");
    for path in paths {
        let path = path.replace('[', "\\[");
        dpkg.arg(&path).arg(path.trim_start_matches("/usr"));
    }
    let said = String::from_utf8(dpkg.output().unwrap().stdout).unwrap();
    let (mut owners, mut diverted) = (Owners::new(), BTreeSet::new());
    for line in said.lines() {
        let (packages, path) = line.rsplit_once(": ").unwrap();
        let path = merged.on_disk(path.as_bytes()).into_owned();
        if packages.starts_with("diversion ") || packages.starts_with("local diversion ") {
            diverted.insert(path);
            continue;
        }
        let names = packages.split(", ").map(|name| name.split(':').next().unwrap().to_owned());
        owners.entry(path).or_default().extend(names);
    }
    (owners, diverted)
}

/// What dpkg finds changed of the packages that own programs.
fn changed(owners: &Owners, merged: &Merged) -> BTreeSet<Vec<u8>> {
    let names: BTreeSet<_> = owners.values().flatten().collect();
    let verified = Command::new("dpkg").arg("--verify").args(names).env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8(verified.stdout).unwrap();
    let differs = said.lines().filter(|line| line.as_bytes().get(2) == Some(&b'5'));
    let paths = differs.filter_map(|line| line.find('/').and_then(|slash| line.get(slash..)));
    paths.map(|path| merged.on_disk(path.as_bytes()).into_owned()).collect()
}

#[test]
fn of_every_program_of_this_machine_the_same_is_said_as_by_dpkg() {
    if !Path::new("/var/lib/dpkg/status").exists() {
        println!("this machine has no dpkg: nothing is compared");
        return;
    }
    let root = Root::open(Path::new("/")).unwrap();
    let merged = Merged::read(&root);
    let paths = executables();
    let (owners, diverted) = by_dpkg(&paths, &merged);
    let changed = changed(&owners, &merged);
    let mut packages = Packages::default();
    let begun = Instant::now();
    packages.look_up(&root, b"/nothing", None);
    println!("first reading: {:?}, {} KB are kept", begun.elapsed(), packages.size() / 1024);
    let begun = Instant::now();
    let mut ask = |path: &[u8]| packages.look_up(&root, path, root.file(path).ok());
    for path in paths.iter().map(String::as_bytes).filter(|path| !diverted.contains(*path)) {
        let shown = path.escape_ascii();
        match (ask(path), owners.get(path)) {
            (Package::None, None) => {}
            (Package::Owned { name, state, believed }, Some(owners)) => {
                assert!(believed, "these are the own databases");
                assert!(owners.contains(&name), "{shown} is of {name}, and not of {owners:?}");
                assert_eq!(
                    state == Shipped::Modified,
                    changed.contains(path),
                    "{shown} of {name}: {state:?}"
                );
            }
            (found, owners) => panic!("{shown}: {found:?}, and by dpkg {owners:?}"),
        }
    }
    println!("{} programs, {} diverted: {:?}", paths.len(), diverted.len(), begun.elapsed());
    for path in &changed {
        let found = ask(path);
        let is_modified = matches!(found, Package::Owned { state: Shipped::Modified, .. });
        assert!(is_modified, "{} is {found:?}", path.escape_ascii());
    }
    println!("{} changed files", changed.len());
    assert!(owners.len() > 100 || paths.len() < 100, "dpkg was asked the wrong way");
}
