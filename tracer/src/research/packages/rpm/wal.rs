//! SQLite's write-ahead log: pages that were written and are not in the database yet
//! (<https://www.sqlite.org/fileformat2.html>, section 4).

use std::{collections::HashMap, fs::File, io};

use foldhash::fast::FixedState;

use super::{be32, broken, part};

/// The magic number; the lowest bit says that checksums are made of big-endian numbers.
const MAGIC: u32 = 0x377f_0682;
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
/// Largest log that is read, bytes. rpm's are copied into the database at 4 MB.
const LARGEST: u64 = 256 << 20;

/// The newest committed version of each page in the log.
#[derive(Default)]
pub(super) struct Wal {
    file: Option<File>,
    size: u64,
    pages: HashMap<u32, u64, FixedState>,
}

impl Wal {
    /// Reads a log up to the first frame that is not valid, as SQLite does: what follows is older, or was broken off.
    pub(super) fn read(file: File, page_size: usize) -> io::Result<Self> {
        let size = file.metadata()?.len();
        if size > LARGEST {
            return Err(broken("a write-ahead log that is too large"));
        }
        if size < HEAD as u64 {
            return Ok(Self::default());
        }
        let head = part(&file, 0, HEAD)?;
        let mut wal = Self { file: None, size, pages: HashMap::default() };
        let mut sum = Sum::new(be32(&head, 0).is_some_and(|magic| magic & 1 == 1));
        sum.add(head.get(..24).unwrap_or_default());
        let is_valid = be32(&head, 0).is_some_and(|magic| magic & !1 == MAGIC) && sum.is(&head, 24);
        if !is_valid || be32(&head, 8).and_then(|size| usize::try_from(size).ok()) != Some(page_size) {
            return Ok(Self::default());
        }
        let mut uncommitted = Vec::new();
        let mut at = HEAD as u64;
        while let Ok(frame) = part(&file, at, FRAME_HEAD + page_size) {
            let (frame_head, page) = frame.split_at(FRAME_HEAD);
            sum.add(frame_head.get(..8).unwrap_or_default());
            sum.add(page);
            if frame_head.get(8..16) != head.get(16..24) || !sum.is(frame_head, 16) {
                break;
            }
            uncommitted.push((be32(frame_head, 0).unwrap_or(0), at + FRAME_HEAD as u64));
            // The last frame of a transaction says how large the database is after it.
            if be32(frame_head, 4) != Some(0) {
                wal.pages.extend(uncommitted.drain(..));
            }
            at += (FRAME_HEAD + page_size) as u64;
        }
        wal.file = Some(file);
        Ok(wal)
    }

    /// Bytes of the log.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// A page, where the log has it.
    pub(super) fn page(&self, number: u32, page_size: usize) -> Option<io::Result<Vec<u8>>> {
        Some(part(self.file.as_ref()?, *self.pages.get(&number)?, page_size))
    }
}

/// The checksum of a log: it goes on from frame to frame.
struct Sum {
    is_big_endian: bool,
    sums: (u32, u32),
}

impl Sum {
    fn new(is_big_endian: bool) -> Self {
        Self { is_big_endian, sums: (0, 0) }
    }

    fn add(&mut self, bytes: &[u8]) {
        let number = |bytes: [u8; 4]| {
            if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks().0 {
            let (first, second) = (number([*a, *b, *c, *d]), number([*e, *f, *g, *h]));
            self.sums.0 = self.sums.0.wrapping_add(first).wrapping_add(self.sums.1);
            self.sums.1 = self.sums.1.wrapping_add(second).wrapping_add(self.sums.0);
        }
    }

    /// Whether it is what is written there.
    fn is(&self, bytes: &[u8], at: usize) -> bool {
        be32(bytes, at) == Some(self.sums.0) && be32(bytes, at + 4) == Some(self.sums.1)
    }
}
