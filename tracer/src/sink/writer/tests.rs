//! Real pipes: read, not read, closed; and a full disk.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixDatagram,
    time::Instant,
};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn line(number: usize) -> Vec<u8> {
    format!("{number:07}\n").into_bytes()
}

pub(super) fn full() -> OwnedFd {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn closed_pipe() -> OwnedFd {
    rustix::pipe::pipe().unwrap().1
}

/// Sends lines until one is refused; returns how many were taken.
fn send_until_refused(writer: &mut Writer) -> (usize, Refused) {
    for number in 0.. {
        if let Err(why) = writer.try_send(&line(number)) {
            return (number, why);
        }
    }
    unreachable!("the numbers do not end");
}

#[test]
fn every_line_arrives_in_its_order() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    });
    let mut writer = Writer::new(fd, 1 << 20).unwrap();
    (0..50_000).for_each(|number| writer.try_send(&line(number)).unwrap());
    assert_eq!(writer.finish(LIMIT), Delivery { undelivered: 0, ended: None });
    let expected: String = (0..50_000).map(|number| format!("{number:07}\n")).collect();
    assert!(reading.join().unwrap() == expected);
}

#[test]
fn a_line_is_written_at_once() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let mut reader = BufReader::new(File::from(reader));
    let mut writer = Writer::new(fd, 1024).unwrap();
    for number in 0..100 {
        writer.try_send(&line(number)).unwrap();
        writer.flush();
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        assert_eq!(text, format!("{number:07}\n"));
    }
}

#[test]
fn lines_that_come_fast_are_written_together() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut writer = Writer::new(theirs.into(), 1 << 20).unwrap();
    // Each write is a message of its own.
    let reading = thread::spawn(move || {
        let (mut message, mut sizes) = ([0; BATCH], Vec::new());
        while sizes.iter().sum::<usize>() < 80_000 {
            sizes.push(ours.recv(&mut message).unwrap());
        }
        sizes
    });
    (0..10_000).for_each(|number| writer.try_send(&line(number)).unwrap());
    writer.flush();
    let sizes = reading.join().unwrap();
    assert!(sizes.len() < 5_000, "{} writes", sizes.len());
    assert!(sizes.iter().all(|size| size % 8 == 0), "a line was cut: {sizes:?}");
    assert_eq!(writer.finish(LIMIT), Delivery { undelivered: 0, ended: None });
}

#[test]
fn a_pipe_that_nobody_reads_refuses_and_does_not_block() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let mut writer = Writer::new(fd, 100_000).unwrap();
    let (taken, why) = send_until_refused(&mut writer);
    assert_eq!(why, Refused::Full);
    assert!(taken * 8 <= 100_000 + BATCH, "{taken} lines were taken");
    let begin = Instant::now();
    let delivery = writer.finish(Duration::from_millis(50));
    assert!(begin.elapsed() < LIMIT);
    assert!(delivery.undelivered > 0 && delivery.ended.is_none(), "{delivery:?}");
    let arrived = lines_held(&reader);
    assert!(
        arrived > 0 && arrived + delivery.undelivered as usize >= taken,
        "{arrived} of {taken}: {delivery:?}"
    );
}

/// Lines that the pipe holds already.
fn lines_held(reader: &OwnedFd) -> usize {
    rustix::io::ioctl_fionbio(reader, true).unwrap();
    let mut held = vec![0; 1 << 20];
    let count = rustix::io::read(reader, &mut held).unwrap();
    held[..count].iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn there_is_room_again_once_half_was_read() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let mut writer = Writer::new(fd, 200_000).unwrap();
    while send_until_refused(&mut writer).0 > 0 {}
    assert!(!writer.has_room());
    let mut reader = BufReader::new(File::from(reader));
    let mut text = String::new();
    while !writer.has_room() {
        reader.read_line(&mut text).unwrap();
    }
    writer.try_send(&line(1)).unwrap();
}

#[test]
fn a_line_beyond_the_bound_is_taken_when_nothing_waits() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let mut writer = Writer::new(fd, 4).unwrap();
    writer.try_send(&line(1)).unwrap();
    writer.send(&line(2));
    assert_eq!(writer.finish(LIMIT).undelivered, 0);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "0000001\n0000002\n");
}

#[test]
fn a_closed_pipe_is_told_as_closed() {
    let mut writer = Writer::new(closed_pipe(), 1024).unwrap();
    let (_, why) = send_until_refused(&mut writer);
    assert!(why == Refused::Ended || why == Refused::Full);
    assert_eq!(block_on(writer.wait_ended()), Ended::Closed);
    assert_eq!(writer.try_send(&line(1)), Err(Refused::Ended));
    assert_eq!(writer.finish(LIMIT).ended, Some(Ended::Closed));
}

#[test]
fn a_reader_that_goes_is_noticed_without_a_line() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let writer = Writer::new(fd, 1024).unwrap();
    assert_eq!(writer.ended(), None);
    drop(reader);
    assert_eq!(block_on(writer.wait_ended()), Ended::Closed);
}

#[test]
fn a_full_disk_is_told_as_failed() {
    let mut writer = Writer::new(full(), 1024).unwrap();
    writer.try_send(&line(1)).unwrap();
    writer.flush();
    assert_eq!(block_on(writer.wait_ended()), Ended::Failed(Errno::NOSPC));
    let delivery = writer.finish(LIMIT);
    assert_eq!(delivery, Delivery { undelivered: 1, ended: Some(Ended::Failed(Errno::NOSPC)) });
}

#[test]
fn a_non_blocking_descriptor_is_waited_for() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    rustix::io::ioctl_fionbio(&fd, true).unwrap();
    let reading = thread::spawn(move || BufReader::new(File::from(reader)).lines().count());
    let mut writer = Writer::new(fd, 1 << 20).unwrap();
    (0..50_000).for_each(|number| writer.try_send(&line(number)).unwrap());
    assert_eq!(writer.finish(LIMIT).undelivered, 0);
    assert_eq!(reading.join().unwrap(), 50_000);
}

#[test]
fn direct_writes_and_tells_how_it_ended() {
    let (reader, fd) = rustix::pipe::pipe().unwrap();
    let mut direct = Direct::new(fd);
    direct.try_send(&line(1)).unwrap();
    direct.send(&line(2));
    assert_eq!(BufReader::new(File::from(reader)).lines().next().unwrap().unwrap(), "0000001");
    assert_eq!(direct.try_send(&line(3)), Err(Refused::Ended));
    assert_eq!(direct.ended(), Some(Ended::Closed));
    let mut direct = Direct::new(full());
    direct.send(&line(1));
    assert_eq!(direct.ended(), Some(Ended::Failed(Errno::NOSPC)));
}

#[test]
fn lines_are_counted_across_pieces() {
    for (bytes, count) in [(vec![], 0), (vec![b'\n'; 1000], 1000), (b"a\nb\n\nc".repeat(200), 600)] {
        assert_eq!(lines(&bytes), count);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
