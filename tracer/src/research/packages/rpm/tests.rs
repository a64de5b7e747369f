//! The package in `fixtures/sample.*` was built for this with `rpmbuild` (a noarch package of two programs, a link, a
//! configuration file and a ghost file), and installed into an empty database with `rpm --dbpath FOLDER --justdb -i`. Of that
//! database all tables but `Packages` were dropped, and the rest was written anew in pages of 512 bytes (`VACUUM`):
//! `sample.sqlite`. The header in it was put by `db5.3_load` into a hash table with pages of 512 bytes: `sample.bdb`.

use proptest::prelude::*;

use super::{
    super::{
        Packages,
        tests::{Made, owned},
    },
    *,
};
use crate::model::provenance::{Package, Shipped};

const SQLITE: &[u8] = include_bytes!("fixtures/sample.sqlite");
const BDB: &[u8] = include_bytes!("fixtures/sample.bdb");

fn opened(bytes: &[u8]) -> File {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The header of the sample.
fn header() -> Vec<u8> {
    let mut found = Vec::new();
    let table = sqlite::Table::open(opened(SQLITE), None, b"Packages").unwrap();
    table
        .each(&mut |_, header| {
            found.extend_from_slice(header);
            Ok(())
        })
        .unwrap();
    found
}

/// The same as rpm's ndb writes it: a page of slots, and behind it the header in a blob.
fn ndb() -> Vec<u8> {
    let header = header();
    let blob_length = u32::try_from(header.len()).unwrap();
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let slot = |package, place, blocks| [b"Slot".to_vec(), numbers(&[package, place, blocks])].concat();
    let mut file = [b"RpmP".to_vec(), numbers(&[0, 7, 1, 3, 0, 0, 0])].concat();
    file.extend(slot(0, 0, 0));
    file.extend(slot(2, 256, blob_length.div_ceil(16) + 2));
    (0..252).for_each(|_| file.extend(slot(0, 0, 0)));
    file.extend([b"BlbS".to_vec(), numbers(&[2, 7, blob_length]), header].concat());
    file.extend([&[0; 20][..], b"BlbE"].concat());
    file
}

/// A root with the files of the sample and its database.
fn sample(database: &str, bytes: &[u8]) -> Made {
    let made = Made::new();
    made.write(database, bytes);
    made.write("usr/bin/sample", "a sample program\n");
    made.write("usr/sbin/sampled", "a sample server\n");
    made.write("var/log/sample.log", "");
    made
}

fn look_around(made: &Made) {
    let mut packages = Packages::default();
    assert_eq!(made.ask(&mut packages, "/usr/bin/sample"), owned("sample", Shipped::Intact));
    assert_eq!(made.ask(&mut packages, "/usr/sbin/sampled"), owned("sample", Shipped::Intact));
    for path in ["/usr/bin/link", "/var/log/sample.log", "/usr/bin/other", "/usr/bin", "/usr/bin/"] {
        assert_eq!(made.ask(&mut packages, path), Package::None, "{path}");
    }
    made.write("usr/bin/sample", "a sample Program\n");
    assert_eq!(made.ask(&mut packages, "/usr/bin/sample"), owned("sample", Shipped::Modified));
    let gone = packages.look_up(&made.root(), b"/usr/bin/sample", None);
    assert_eq!(gone, owned("sample", Shipped::Unverified));
}

#[test]
fn each_format_is_read_and_in_each_place() {
    look_around(&sample("var/lib/rpm/rpmdb.sqlite", SQLITE));
    look_around(&sample("usr/lib/sysimage/rpm/rpmdb.sqlite", SQLITE));
    look_around(&sample("usr/lib/sysimage/rpm/Packages.db", &ndb()));
    look_around(&sample("var/lib/rpm/Packages", BDB));
}

#[test]
fn a_folder_that_is_a_link_within_the_root_is_followed() {
    let made = sample("usr/lib/sysimage/rpm/rpmdb.sqlite", SQLITE);
    made.link("var/lib/rpm", "../../usr/lib/sysimage/rpm");
    look_around(&made);
}

#[test]
fn merged_folders_hold_the_files_of_both() {
    let made = sample("var/lib/rpm/rpmdb.sqlite", SQLITE);
    std::fs::rename(made.path("usr/sbin/sampled"), made.path("usr/bin/sampled")).unwrap();
    std::fs::remove_dir(made.path("usr/sbin")).unwrap();
    made.link("usr/sbin", "bin");
    let found = made.ask(&mut Packages::default(), "/usr/bin/sampled");
    assert_eq!(found, owned("sample", Shipped::Intact));
}

#[test]
fn a_database_that_is_being_written_is_not_read() {
    let made = sample("var/lib/rpm/rpmdb.sqlite", SQLITE);
    made.write("var/lib/rpm/rpmdb.sqlite-journal", "x");
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/sample"), Package::Unknown);
    // What rpm leaves of an empty log.
    made.write("var/lib/rpm/rpmdb.sqlite-journal", "");
    made.write("var/lib/rpm/rpmdb.sqlite-wal", "");
    assert_eq!(made.ask(&mut Packages::default(), "/usr/bin/sample"), owned("sample", Shipped::Intact));
}

/// Reads all that a damaged store gives, and each header again.
fn read_all(store: io::Result<impl Store>) {
    let Ok(store) = store else { return };
    let (mut places, mut bytes) = (Vec::new(), 0);
    let _ = store.each(&mut |place, header| {
        places.push(place);
        bytes += header.len();
        if let Some(header) = Header::parse(header) {
            let _ = header.each_file(|_, _| ControlFlow::<()>::Continue(()));
        }
        Ok(())
    });
    assert!(bytes < 100_000, "{bytes} bytes of headers in a small file");
    places.into_iter().for_each(|place| drop(store.header(place)));
}

proptest! {
    #[test]
    fn damage_is_an_error_and_nothing_worse(
        damage in proptest::collection::vec((0..5000_usize, any::<u8>()), 0..20),
        length in 0..5000_usize,
        is_cut in any::<bool>(),
    ) {
        let damaged = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, byte) in &damage {
                if let Some(place) = bytes.get_mut(*at) {
                    *place = *byte;
                }
            }
            bytes.truncate(if is_cut { length } else { bytes.len() });
            opened(&bytes)
        };
        read_all(sqlite::Table::open(damaged(SQLITE), None, b"Packages"));
        read_all(bdb::Bdb::open(damaged(BDB)));
        read_all(ndb::Ndb::open(damaged(&ndb())));
    }
}
