//! `fixtures/rows.sqlite` was written by SQLite 3.40 in pages of 512 bytes: a table `Packages` whose row N holds N * 37 % 600
//! bytes of the value N, for N from 1 to 40. Its log, `rows.sqlite-wal`, has two transactions, which delete row 3 and make row 7
//! 700 bytes of 0xff, and a part of a third, which was not committed.

use std::{collections::BTreeMap, io::Write};

use proptest::prelude::*;

use super::*;

const ROWS: &[u8] = include_bytes!("../fixtures/rows.sqlite");
const LOG: &[u8] = include_bytes!("../fixtures/rows.sqlite-wal");

fn opened(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn rows(file: &[u8], log: Option<&[u8]>) -> io::Result<Vec<Vec<u8>>> {
    let table = Table::open(opened(file), log.map(opened), b"Packages")?;
    let (mut rows, mut places) = (Vec::new(), Vec::new());
    table.each(&mut |place, blob| {
        places.push(place);
        rows.push(blob.to_vec());
        Ok(())
    })?;
    let again: Vec<_> = places.into_iter().map(|place| table.header(place)).collect::<io::Result<_>>()?;
    assert_eq!(again, rows);
    Ok(rows)
}

fn written() -> BTreeMap<usize, Vec<u8>> {
    (1..=40_u8).map(|n| (n.into(), vec![n; usize::from(n) * 37 % 600])).collect()
}

fn written_later() -> BTreeMap<usize, Vec<u8>> {
    let mut rows = written();
    rows.remove(&3);
    rows.insert(7, vec![0xff; 700]);
    rows
}

fn values(rows: BTreeMap<usize, Vec<u8>>) -> Vec<Vec<u8>> {
    rows.into_values().collect()
}

#[test]
fn rows_come_in_their_order_and_whole() {
    assert_eq!(rows(ROWS, None).unwrap(), values(written()));
}

#[test]
fn the_log_counts_as_far_as_it_was_committed() {
    assert_eq!(rows(ROWS, Some(LOG)).unwrap(), values(written_later()));
}

#[test]
fn a_log_of_another_time_counts_for_nothing() {
    // The salt, which every frame repeats.
    for at in [0, 8, 16, 24] {
        let mut log = LOG.to_vec();
        log[at] ^= 0x55;
        assert_eq!(rows(ROWS, Some(&log)).unwrap(), values(written()), "{at}");
    }
}

#[test]
fn a_frame_that_was_broken_off_ends_the_log() {
    let mut log = LOG.to_vec();
    // In the page of the first frame.
    log[32 + 24 + 100] ^= 1;
    assert_eq!(rows(ROWS, Some(&log)).unwrap(), values(written()));
    for length in [0, 1, 31, 32, 40, 500] {
        assert_eq!(rows(ROWS, Some(&LOG[..length])).unwrap(), values(written()), "{length}");
    }
}

#[test]
fn a_table_that_is_not_there_is_an_error() {
    assert!(Table::open(opened(ROWS), None, b"Package").is_err());
}

#[test]
fn a_tree_in_a_circle_ends() {
    // Every page leads to every page.
    let mut bytes = ROWS.to_vec();
    for (number, page) in bytes.chunks_mut(512).enumerate().skip(1) {
        page[0] = INTERIOR;
        page[3..5].copy_from_slice(&100_u16.to_be_bytes());
        let other = u32::try_from(number).unwrap().to_be_bytes();
        page[8..12].copy_from_slice(&other);
    }
    assert!(rows(&bytes, None).is_err());
}

#[test]
fn numbers_have_one_to_nine_bytes() {
    for (bytes, number) in [
        (&[0x7f][..], 0x7f),
        (&[0x81, 0x00], 0x80),
        (&[0xff; 9], u64::MAX),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], 1),
    ] {
        assert_eq!(varint(bytes), Some((number, &[][..])));
        assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_row_panic(row in proptest::collection::vec(any::<u8>(), 0..40), index in 0..5_usize) {
        let _ = column(&row, index).and_then(integer);
    }

    #[test]
    fn no_bytes_make_a_table_panic_or_last(
        damage in proptest::collection::vec((0..ROWS.len(), any::<u8>()), 0..40),
        in_log in proptest::collection::vec((0..LOG.len(), any::<u8>()), 0..3),
        length in 0..2 * ROWS.len(),
    ) {
        let (mut file, mut log) = (ROWS.to_vec(), LOG.to_vec());
        damage.into_iter().for_each(|(at, byte)| file[at] = byte);
        in_log.into_iter().for_each(|(at, byte)| log[at] = byte);
        file.truncate(length);
        let Ok(table) = Table::open(opened(&file), Some(opened(&log)), b"Packages") else { return Ok(()) };
        let mut bytes = 0;
        let _ = table.each(&mut |place, blob| {
            bytes += blob.len();
            let _ = table.header(place);
            Ok(())
        });
        prop_assert!(bytes <= file.len() + log.len());
    }
}
