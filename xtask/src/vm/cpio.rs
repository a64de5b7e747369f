//! A writer of the newc cpio format, as the kernel reads an initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Directories, files and character devices;
//! no links, no compression.

const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// One entry: everything of its header that is not constant or derived.
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl Archive {
    /// A folder, which must come before what is in it. `path` has no leading slash.
    pub(crate) fn directory(&mut self, path: &str, permissions: u32) {
        self.entry(&Entry { path, mode: DIRECTORY | permissions, device: (0, 0), content: &[] });
    }

    /// A regular file, owned by root.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(&Entry { path, mode: FILE | permissions, device: (0, 0), content });
    }

    /// A character device by its major and minor number.
    pub(crate) fn character_device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        self.entry(&Entry { path, mode: CHARACTER_DEVICE | permissions, device, content: &[] });
    }

    /// Closes the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(&Entry { path: TRAILER, mode: 0, device: (0, 0), content: &[] });
        self.bytes
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        let size = u32::try_from(entry.content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(entry.path.len() + 1).unwrap_or(u32::MAX);
        // ino, mode, uid, gid, nlink, mtime, size, device, special device, name size, checksum
        let fields =
            [self.entries, entry.mode, 0, 0, 1, 0, size, 0, 0, entry.device.0, entry.device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(entry.path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(entry.content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.directory("etc", 0o755);
        archive.file("etc/one", 0o644, b"12345");
        archive.character_device("console", 0o600, (5, 1));
        archive.file("init", 0o755, b"");
        archive.finish()
    }

    /// Path, mode, device numbers, content.
    type Read = (String, u32, (u32, u32), Vec<u8>);

    fn read(mut bytes: &[u8]) -> Vec<Read> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let name_end = 110 + field(11) as usize;
            let content = name_end.next_multiple_of(4);
            let content_end = content + field(6) as usize;
            assert_eq!(bytes[name_end - 1], 0, "a name ends with NUL");
            let path = String::from_utf8(bytes[110..name_end - 1].to_vec()).unwrap();
            if path == TRAILER {
                return entries;
            }
            entries.push((path, field(1), (field(9), field(10)), bytes[content..content_end].to_vec()));
            bytes = &bytes[content_end.next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(
            read(&sample()),
            [
                ("etc".into(), 0o40755, (0, 0), vec![]),
                ("etc/one".into(), 0o100_644, (0, 0), b"12345".to_vec()),
                ("console".into(), 0o20600, (5, 1), vec![]),
                ("init".into(), 0o100_755, (0, 0), vec![]),
            ]
        );
    }

    #[test]
    fn entries_begin_at_multiples_of_four_with_numbers_of_their_own() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<_> = (0..bytes.len() - 6).filter(|&at| &bytes[at..at + 6] == b"070701").collect();
        assert!(starts.iter().all(|start| start % 4 == 0));
        let numbers: std::collections::BTreeSet<_> =
            starts.iter().map(|start| &bytes[start + 6..start + 14]).collect();
        assert_eq!(numbers.len(), starts.len());
    }
}
