//! A hash table of Berkeley DB, `Packages` (`dbinc/db_page.h`): pages of pairs of key and value. Keys are numbers of packages and of
//! no use here; values are headers, and as a rule so long that they lie in a chain of pages of their own. Numbers have the byte
//! order of the machine that wrote them.

use std::{fs::File, io};

use super::{HEADER, Place, Store, be16, be32, broken, le16, le32, part};

/// `DB_HASHMAGIC`
const MAGIC: u32 = 0x0006_1561;
/// `P_HASH_UNSORTED`, `P_HASH`: pages of pairs.
const PAIRS: [u8; 2] = [2, 13];
/// `P_OVERFLOW`: a page of a chain.
const OVERFLOW: u8 = 7;
/// `H_KEYDATA`: the value lies in the page itself.
const INLINE: u8 = 1;
/// `H_OFFPAGE`: it lies in a chain.
const CHAIN: u8 = 3;
/// Bytes before what a page holds.
const HEAD: usize = 26;

pub(super) struct Bdb {
    file: File,
    size: u64,
    page_size: usize,
    last_page: u32,
    is_big_endian: bool,
}

impl Bdb {
    pub(super) fn open(file: File) -> io::Result<Self> {
        let head = part(&file, 0, 72)?;
        let is_big_endian = be32(&head, 12) == Some(MAGIC);
        let size = file.metadata()?.len();
        let mut bdb = Self { file, size, page_size: 0, last_page: 0, is_big_endian };
        let page_size = bdb.number(&head, 20).and_then(|size| usize::try_from(size).ok());
        let page_size = page_size.filter(|size| (512..=65536).contains(size) && size.is_power_of_two());
        let (Some(MAGIC), Some(page_size), Some(last_page), Some(0)) =
            (bdb.number(&head, 12), page_size, bdb.number(&head, 32), head.get(24).copied())
        else {
            return Err(broken("not a hash table of Berkeley DB, or an encrypted one"));
        };
        (bdb.page_size, bdb.last_page) = (page_size, last_page);
        Ok(bdb)
    }

    fn number(&self, bytes: &[u8], at: usize) -> Option<u32> {
        if self.is_big_endian { be32(bytes, at) } else { le32(bytes, at) }
    }

    fn short(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let short = if self.is_big_endian { be16(bytes, at) } else { le16(bytes, at) };
        short.map(usize::from)
    }

    fn page(&self, number: u32, length: usize) -> io::Result<Vec<u8>> {
        part(&self.file, u64::from(number) * self.page_size as u64, length)
    }

    /// An item of a page of pairs, with its type before it. Items lie one before the other from the page's end.
    fn item<'a>(&self, page: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let end = match index.checked_sub(1) {
            None => page.len(),
            Some(before) => self.short(page, HEAD + 2 * before)?,
        };
        page.get(self.short(page, HEAD + 2 * index)?..end)
    }

    fn value(&self, page: &[u8], index: usize) -> io::Result<Vec<u8>> {
        let item = self.item(page, index).ok_or_else(|| broken("an item out of its page"))?;
        match item.first() {
            Some(&INLINE) => Ok(item.get(1..).unwrap_or_default().to_vec()),
            Some(&CHAIN) => {
                let chain = self.number(item, 4).zip(self.number(item, 8));
                let (first, length) = chain.ok_or_else(|| broken("a value without a place"))?;
                self.chain(first, usize::try_from(length).unwrap_or(usize::MAX))
            }
            Some(_) | None => Err(broken("a value of an unknown type")),
        }
    }

    /// As many bytes of a chain as were said to be there, so one that goes in a circle ends too.
    fn chain(&self, first: u32, length: usize) -> io::Result<Vec<u8>> {
        if length > HEADER || length as u64 > self.size {
            return Err(broken("a value that is too long"));
        }
        let (mut bytes, mut next) = (Vec::with_capacity(length), first);
        while bytes.len() < length {
            let page = self.page(next, self.page_size)?;
            if page.get(25) != Some(&OVERFLOW) {
                return Err(broken("a chain that breaks off"));
            }
            let wanted = (length - bytes.len()).min(self.page_size - HEAD);
            bytes.extend_from_slice(page.get(HEAD..HEAD + wanted).unwrap_or_default());
            next = self.number(&page, 16).unwrap_or(0);
        }
        Ok(bytes)
    }
}

impl Store for Bdb {
    fn each(&self, take: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = self.size;
        for number in 1..=self.last_page {
            let head = self.page(number, HEAD)?;
            if !head.get(25).is_some_and(|kind| PAIRS.contains(kind)) {
                continue;
            }
            let page = self.page(number, self.page_size)?;
            let items = self.short(&page, 20).unwrap_or(0);
            for index in (1..items).step_by(2) {
                let header = self.value(&page, index)?;
                // Key 0 holds the number of the last package.
                if header.len() <= 4 {
                    continue;
                }
                left = left
                    .checked_sub(header.len() as u64)
                    .ok_or_else(|| broken("values lie in one another"))?;
                take(u64::from(number) << 32 | index as u64, &header)?;
            }
        }
        Ok(())
    }

    fn header(&self, place: Place) -> io::Result<Vec<u8>> {
        let (number, index) = (place >> 32, place & u64::from(u32::MAX));
        let number = u32::try_from(number).map_err(|_| broken("no such page"))?;
        let page = self.page(number, self.page_size)?;
        self.value(&page, usize::try_from(index).unwrap_or(0))
    }
}
