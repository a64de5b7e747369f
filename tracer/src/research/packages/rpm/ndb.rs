//! rpm's own "ndb" format, `Packages.db` (`lib/backend/ndb/rpmpkg.c`): a head of 32 bytes, slots of 16 bytes that say where
//! the header of a package is, and the headers, each after 16 bytes of its own. All numbers are little-endian.

use std::{fs::File, io};

use super::{HEADER, Place, Store, broken, le32, part};

const MAGIC: u32 = u32::from_le_bytes(*b"RpmP");
const SLOT: u32 = u32::from_le_bytes(*b"Slot");
const BLOB: u32 = u32::from_le_bytes(*b"BlbS");
/// Unit in which slots are allotted, bytes; the file's head takes the room of the first two slots.
const PAGE: usize = 4096;
const HEAD: usize = 32;
/// Pages of slots that are read: of 65,536 packages.
const SLOT_PAGES: u32 = 256;
/// Unit in which a slot says where its header is, bytes.
const BLOCK: u64 = 16;

pub(super) struct Ndb {
    file: File,
    size: u64,
    /// Bytes of slots, with the head.
    slots: usize,
}

impl Ndb {
    pub(super) fn open(file: File) -> io::Result<Self> {
        let head = part(&file, 0, HEAD)?;
        let pages = le32(&head, 12).filter(|pages| (1..=SLOT_PAGES).contains(pages));
        let (Some(MAGIC), Some(pages)) = (le32(&head, 0), pages) else {
            return Err(broken("not a database of rpm in the format ndb"));
        };
        let slots = usize::try_from(pages).map_or(0, |pages| pages * PAGE);
        Ok(Self { size: file.metadata()?.len(), file, slots })
    }

    fn read(&self, place: Place) -> Option<io::Result<Vec<u8>>> {
        let at = place.checked_mul(BLOCK)?;
        let head = match part(&self.file, at, 16) {
            Ok(head) => head,
            Err(error) => return Some(Err(error)),
        };
        let length = usize::try_from(le32(&head, 12)?).ok().filter(|length| *length <= HEADER)?;
        (le32(&head, 0)? == BLOB).then(|| part(&self.file, at.checked_add(16).unwrap_or(at), length))
    }
}

impl Store for Ndb {
    fn each(&self, take: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let slots = part(&self.file, 0, self.slots)?;
        let mut left = self.size;
        for slot in slots.as_chunks::<16>().0.iter().skip(HEAD / 16) {
            if le32(slot, 0) != Some(SLOT) {
                return Err(broken("not a slot"));
            }
            // A slot without a package's number or place is free.
            let (package, place) = (le32(slot, 4).unwrap_or(0), le32(slot, 8).unwrap_or(0));
            if package == 0 || place == 0 {
                continue;
            }
            let header = self.header(place.into())?;
            left =
                left.checked_sub(header.len() as u64).ok_or_else(|| broken("headers lie in one another"))?;
            take(place.into(), &header)?;
        }
        Ok(())
    }

    fn header(&self, place: Place) -> io::Result<Vec<u8>> {
        self.read(place).unwrap_or_else(|| Err(broken("no header where a slot says")))
    }
}
