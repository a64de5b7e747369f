//! One table of an SQLite database, read as the file format says (<https://www.sqlite.org/fileformat2.html>, sections 1.3 and 1.5
//! to 2.6). Read only, and without locks: who reads while another writes gets an error or the picture of a moment, and is told
//! by the file's times to read again.

use std::{fs::File, io};

use super::{HEADER, Place, Store, be16, be32, broken, part, wal::Wal};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes before the first page's own head.
const FILE_HEAD: usize = 100;
/// A page of the tree that leads to others.
const INTERIOR: u8 = 5;
/// A page of the tree that holds rows.
const LEAF: u8 = 13;
/// Column of a row of `Packages` that holds the header; the first is its number.
const BLOB: usize = 1;
/// Columns of `sqlite_schema`: type, name, table, first page.
const TYPE: usize = 0;
const NAME: usize = 1;
const FIRST_PAGE: usize = 3;

pub(super) struct Table {
    file: File,
    wal: Wal,
    size: u64,
    page_size: usize,
    /// Bytes of a page that are not kept for extensions.
    usable: usize,
    /// Pages that there can be.
    pages: usize,
    /// First page of the table.
    first: u32,
}

impl Table {
    /// `wal` is the write-ahead log, where there is one that is not empty.
    pub(super) fn open(file: File, wal: Option<File>, name: &[u8]) -> io::Result<Self> {
        let head = part(&file, 0, FILE_HEAD)?;
        let page_size = match be16(&head, 16) {
            Some(1) => 65536,
            size => usize::from(size.unwrap_or(0)),
        };
        let reserved = head.get(20).copied().map_or(0, usize::from);
        let usable = page_size.saturating_sub(reserved);
        let is_utf8 = be32(&head, 56) == Some(1);
        if !head.starts_with(MAGIC) || !page_size.is_power_of_two() || usable < 480 || !is_utf8 {
            return Err(broken("not an SQLite database of the kind that rpm writes"));
        }
        let wal = wal.map(|file| Wal::read(file, page_size)).transpose()?.unwrap_or_default();
        let size = file.metadata()?.len() + wal.size();
        let pages = usize::try_from(size).unwrap_or(usize::MAX) / page_size;
        let mut table = Self { file, wal, size, page_size, usable, pages, first: 1 };
        table.first = table.find(name)?.ok_or_else(|| broken("the database has no such table"))?;
        Ok(table)
    }

    /// The first page of a table, by the schema, which is a table too.
    fn find(&self, name: &[u8]) -> io::Result<Option<u32>> {
        let mut first = None;
        self.each_row(&mut |_, row| {
            if column(row, TYPE) == Some(b"table") && column(row, NAME) == Some(name) {
                first = column(row, FIRST_PAGE).and_then(integer);
            }
            Ok(())
        })?;
        Ok(first)
    }

    fn each_row(&self, take: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut waiting, mut left) = (vec![self.first], self.size);
        // In a tree each page is met once.
        let mut met = 1;
        while let Some(number) = waiting.pop() {
            let page = self.page(number)?;
            let head = Head::of(&page, number).ok_or_else(|| broken("not a page of a table"))?;
            if head.is_leaf {
                for index in 0..head.cells {
                    let row = self.row(&page, &head, index)?;
                    left = left
                        .checked_sub(row.len() as u64)
                        .ok_or_else(|| broken("rows lie in one another"))?;
                    take(u64::from(number) << 32 | index as u64, &row)?;
                }
                continue;
            }
            met += head.cells + 1;
            if met > self.pages {
                return Err(broken("a tree that goes in a circle"));
            }
            waiting.push(be32(&page, head.at + 8).unwrap_or(0));
            for index in (0..head.cells).rev() {
                let child = head.cell(&page, index).and_then(|cell| be32(cell, 0));
                waiting.push(child.ok_or_else(|| broken("a cell out of its page"))?);
            }
        }
        Ok(())
    }

    fn page(&self, number: u32) -> io::Result<Vec<u8>> {
        if let Some(page) = self.wal.page(number, self.page_size) {
            return page;
        }
        let before = number.checked_sub(1).ok_or_else(|| broken("there is no page 0"))?;
        part(&self.file, u64::from(before) * self.page_size as u64, self.page_size)
    }

    /// The payload of a cell of a leaf: what does not fit in lies in a chain of pages. Its length is said, so one that goes in a
    /// circle ends too.
    fn row(&self, page: &[u8], head: &Head, index: usize) -> io::Result<Vec<u8>> {
        let cell = head.cell(page.get(..self.usable).unwrap_or(page), index);
        let cell = cell.ok_or_else(|| broken("a cell out of its page"))?;
        let sizes = varint(cell).and_then(|(length, rest)| Some((length, varint(rest)?.1)));
        let (length, rest) = sizes.ok_or_else(|| broken("a cell without a size"))?;
        let length = usize::try_from(length).ok().filter(|length| *length <= HEADER);
        let length = length.ok_or_else(|| broken("a row that is too long"))?;
        let here = self.local(length);
        let mut row = rest.get(..here).ok_or_else(|| broken("a cell out of its page"))?.to_vec();
        let mut next = be32(rest, here).unwrap_or(0);
        while row.len() < length {
            let page = self.page(next)?;
            let wanted = (length - row.len()).min(self.usable - 4);
            row.extend_from_slice(page.get(4..4 + wanted).unwrap_or_default());
            next = be32(&page, 0).unwrap_or(0);
        }
        Ok(row)
    }

    /// Bytes of a payload that lie in the leaf itself (section 1.6).
    fn local(&self, length: usize) -> usize {
        let most = self.usable - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

impl Store for Table {
    fn each(&self, take: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>) -> io::Result<()> {
        self.each_row(&mut |place, row| {
            take(place, column(row, BLOB).ok_or_else(|| broken("a row without a header"))?)
        })
    }

    fn header(&self, place: Place) -> io::Result<Vec<u8>> {
        let (number, index) = (place >> 32, place & u64::from(u32::MAX));
        let number = u32::try_from(number).map_err(|_| broken("no such page"))?;
        let page = self.page(number)?;
        let head =
            Head::of(&page, number).filter(|head| head.is_leaf).ok_or_else(|| broken("no page of rows"))?;
        let row = self.row(&page, &head, usize::try_from(index).unwrap_or(0))?;
        Ok(column(&row, BLOB).ok_or_else(|| broken("a row without a header"))?.to_vec())
    }
}

/// The head of a page of a table.
struct Head {
    /// Where it begins in the page.
    at: usize,
    is_leaf: bool,
    cells: usize,
}

impl Head {
    fn of(page: &[u8], number: u32) -> Option<Self> {
        let at = if number == 1 { FILE_HEAD } else { 0 };
        let is_leaf = match *page.get(at)? {
            LEAF => true,
            INTERIOR => false,
            _ => return None,
        };
        Some(Self { at, is_leaf, cells: be16(page, at + 3)?.into() })
    }

    fn cell<'a>(&self, page: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let pointers = self.at + if self.is_leaf { 8 } else { 12 };
        page.get(be16(page, pointers + 2 * index)?.into()..)
    }
}

/// A number of one to nine bytes, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(8)?), bytes.get(9..)?))
}

/// The bytes of a column of a row (section 2.1).
fn column(row: &[u8], wanted: usize) -> Option<&[u8]> {
    let (head, types) = varint(row)?;
    let head = usize::try_from(head).ok()?;
    let mut types = types.get(..head.checked_sub(row.len() - types.len())?)?;
    let mut rest = row.get(head..)?;
    let mut index = 0;
    loop {
        let (kind, following) = varint(types)?;
        let length = match kind {
            0 | 8..=11 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            12.. => (kind - 12) / 2,
        };
        let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if index == wanted {
            return Some(bytes);
        }
        (types, rest, index) = (following, after, index + 1);
    }
}

/// A number of a column; 0 and 1, which have types of their own, are none that is of use here.
fn integer(bytes: &[u8]) -> Option<u32> {
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number).ok().filter(|_| (1..=8).contains(&bytes.len()))
}

#[cfg(test)]
mod tests;
