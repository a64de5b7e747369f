//! Reads the running kernel's BTF: where structure members lie, how many parameters functions take.
//!
//! Only what the offsets and the attaching need; types and relocations of the programs are the loader's.
//! Format: the kernel's `include/uapi/linux/btf.h`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
};

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
/// Bytes of the header.
const HEADER: usize = 24;
/// Bytes of a type, without what follows it by its kind.
const TYPE: usize = 12;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// The bytes are not a BTF that this reader understands.
#[derive(Debug, Error)]
#[error("the kernel's BTF cannot be read: {0} at byte {1}")]
pub struct BtfError(&'static str, usize);

/// Where a member lies: bits from the start of its structure, and its width in bits (0 when it is
/// not a bit field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bits from the start of the outermost structure.
    pub bit_offset: u32,
    /// Width in bits of a bit field, else 0.
    pub bits: u32,
    /// Type of the member, modifiers not resolved.
    type_id: u32,
}

/// An index over the bytes of a BTF.
pub struct KernelTypes<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Byte offset of each type; type 0 is void.
    types: Vec<u32>,
    wanted: BTreeSet<&'a [u8]>,
    structs: BTreeMap<&'a [u8], u32>,
    functions: BTreeMap<&'a [u8], u32>,
    typedefs: BTreeMap<&'a [u8], u32>,
}

impl<'a> KernelTypes<'a> {
    /// Indexes the content of `/sys/kernel/btf/vmlinux`. Only the structures, functions and typedefs that
    /// `wanted` names can be asked for: a kernel has some hundred thousand others.
    ///
    /// # Errors
    /// When the bytes end early or hold a kind of type that is not known.
    pub fn parse(bytes: &'a [u8], wanted: impl IntoIterator<Item = &'a str>) -> Result<Self, BtfError> {
        let header = |at| word(bytes, at);
        if header(0)? as u16 != MAGIC {
            return Err(BtfError("no magic number", 0));
        }
        let start = header(4)? as usize;
        let (type_start, type_len) = (start + header(8)? as usize, header(12)? as usize);
        let (text_start, text_len) = (start + header(16)? as usize, header(20)? as usize);
        let strings =
            bytes.get(text_start..text_start + text_len).ok_or(BtfError("no strings", text_start))?;
        let end = type_start + type_len;
        let wanted = wanted.into_iter().map(str::as_bytes).collect();
        let (structs, functions, typedefs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut index = Self { bytes, strings, types: vec![0], wanted, structs, functions, typedefs };
        let mut at = type_start;
        while at < end {
            at = index.add(at)?;
        }
        Ok(index)
    }

    /// Indexes the type at `at`; returns where the next one begins.
    fn add(&mut self, at: usize) -> Result<usize, BtfError> {
        let info = word(self.bytes, at + 4)?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let id = self.types.len() as u32;
        self.types.push(at as u32);
        if matches!(kind, KIND_STRUCT | KIND_FUNC | KIND_TYPEDEF) {
            let name = self.text(word(self.bytes, at)?);
            if self.wanted.contains(name) {
                let table = match kind {
                    KIND_STRUCT => &mut self.structs,
                    KIND_FUNC => &mut self.functions,
                    _ => &mut self.typedefs,
                };
                table.entry(name).or_insert(id);
            }
        }
        let tail = match kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
            KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
            0 | 20.. => return Err(BtfError("unknown kind of type", at)),
            _ => 0,
        };
        Ok(at + TYPE + tail)
    }

    /// A BTF that has the functions and typedefs which were asked for under the kernel's own ids, and names nothing else:
    /// what programs are attached by. To read the whole is the longest part of a start.
    #[must_use]
    pub fn attach_points(&self) -> Vec<u8> {
        let functions = self.functions.iter().map(|(name, id)| (*id, KIND_FUNC, *name));
        let typedefs = self.typedefs.iter().map(|(name, id)| (*id, KIND_TYPEDEF, *name));
        let kept: Vec<_> = functions.chain(typedefs).collect();
        let last = kept.iter().map(|(id, ..)| *id as usize).max().unwrap_or_default();
        let mut types = plain_type(0, KIND_FWD).repeat(last);
        let mut strings = vec![0];
        for (id, kind, name) in kept {
            let begin = (id as usize - 1) * TYPE; // void, the first one, is not written
            types[begin..begin + TYPE].copy_from_slice(&plain_type(strings.len() as u32, kind));
            strings.extend_from_slice(name);
            strings.push(0);
        }
        let words =
            [HEADER, 0, types.len(), types.len(), strings.len()].map(|word| (word as u32).to_le_bytes());
        let version_1 = [1, 0];
        [&MAGIC.to_le_bytes(), &version_1, words.as_flattened(), &types, &strings].concat()
    }

    /// Finds a member by a path such as `skc_net.net`, through anonymous members, starting from a
    /// structure's name.
    #[must_use]
    pub fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut type_id = *self.structs.get(structure.as_bytes())?;
        let mut found = Member { bit_offset: 0, bits: 0, type_id };
        for name in path.split('.') {
            let member = self.find(self.resolve(type_id)?, name.as_bytes())?;
            found = Member { bit_offset: found.bit_offset + member.bit_offset, ..member };
            type_id = member.type_id;
        }
        Some(found)
    }

    /// Size in bytes of a member's type, pointers being 8; nothing for types without a size.
    #[must_use]
    pub fn size(&self, member: Member) -> Option<u32> {
        let at = self.at(self.resolve(member.type_id)?)?;
        let kind = word(self.bytes, at + 4).ok()? >> 24 & 0x1f;
        match kind {
            2 => Some(8),
            KIND_ARRAY => {
                let element = Member { type_id: word(self.bytes, at + TYPE).ok()?, ..member };
                Some(self.size(element)? * word(self.bytes, at + TYPE + 8).ok()?)
            }
            _ => word(self.bytes, at + 8).ok(),
        }
    }

    /// Number of parameters of a kernel function; nothing when the kernel has no such function.
    #[must_use]
    pub fn parameters(&self, function: &str) -> Option<u32> {
        let id = *self.functions.get(function.as_bytes())?;
        let prototype = word(self.bytes, self.at(id)? + 8).ok()?;
        let info = word(self.bytes, self.at(prototype)? + 4).ok()?;
        Some(info & 0xffff)
    }

    fn find(&self, structure: u32, name: &[u8]) -> Option<Member> {
        let at = self.at(structure)?;
        let info = word(self.bytes, at + 4).ok()?;
        if !matches!(info >> 24 & 0x1f, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let has_bit_fields = info >> 31 == 1;
        for i in 0..(info & 0xffff) as usize {
            let entry = at + TYPE + 12 * i;
            let type_id = word(self.bytes, entry + 4).ok()?;
            let offset = word(self.bytes, entry + 8).ok()?;
            let (bit_offset, bits) =
                if has_bit_fields { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            let own = self.text(word(self.bytes, entry).ok()?);
            if own == name {
                return Some(Member { bit_offset, bits, type_id });
            }
            if own.is_empty()
                && let Some(inner) = self.find(self.resolve(type_id)?, name)
            {
                return Some(Member { bit_offset: bit_offset + inner.bit_offset, ..inner });
            }
        }
        None
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        loop {
            let at = self.at(id)?;
            match word(self.bytes, at + 4).ok()? >> 24 & 0x1f {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = word(self.bytes, at + 8).ok()?;
                }
                _ => return Some(id),
            }
        }
    }

    /// Byte offset of a type.
    fn at(&self, id: u32) -> Option<usize> {
        self.types.get(id as usize).map(|at| *at as usize)
    }

    fn text(&self, offset: u32) -> &'a [u8] {
        let text = self.strings.get(offset as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(text).map(CStr::to_bytes).unwrap_or_default()
    }
}

/// A type of a kind that has no more to it than a name; what it is made of is left void.
fn plain_type(name: u32, kind: u32) -> [u8; TYPE] {
    let mut bytes = [0; TYPE];
    bytes[..4].copy_from_slice(&name.to_le_bytes());
    bytes[4..8].copy_from_slice(&(kind << 24).to_le_bytes());
    bytes
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let slice = bytes.get(at..at + 4).ok_or(BtfError("it ends early", at))?;
    Ok(u32::from_le_bytes([slice[0], slice[1], slice[2], slice[3]]))
}

#[cfg(test)]
mod tests {
    use aya::{Btf, Endianness};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_running_kernels_sockets_are_found() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            panic!("this kernel has no BTF, so neither has the tracer its offsets");
        };
        let types = KernelTypes::parse(&bytes, ["sock_common", "sock", "tcp_connect"]).unwrap();
        let family = types.member("sock_common", "skc_family").unwrap();
        assert_eq!((family.bit_offset % 8, types.size(family)), (0, Some(2)));
        assert_eq!(types.member("sock", "sk_nothing"), None);
        assert_eq!(types.member("sock_common", "skc_ipv6only").map(|m| m.bits), Some(1));
        assert_eq!(types.parameters("tcp_connect"), Some(1));
        assert_eq!(types.parameters("tcp_v4_connect"), None, "it was not asked for");
    }

    #[test]
    fn attach_points_have_the_ids_that_the_whole_gives_them() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let functions = ["tcp_connect", "bpf_iter_task_file", "no_function"];
        let typedefs = ["btf_trace_inet_sock_set_state", "btf_trace_nothing"];
        let types = KernelTypes::parse(&bytes, functions.into_iter().chain(typedefs)).unwrap();
        let written = types.attach_points();
        let few = KernelTypes::parse(&written, functions.into_iter().chain(typedefs)).unwrap();
        assert_eq!((&few.functions, &few.typedefs), (&types.functions, &types.typedefs));
        assert_eq!((few.functions.len(), few.typedefs.len()), (2, 1));
        Btf::parse(&written, Endianness::default()).unwrap();
    }

    #[test]
    fn where_nothing_is_found_there_is_no_attach_point() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let types = KernelTypes::parse(&bytes, ["no_function"]).unwrap();
        let written = types.attach_points();
        let none = KernelTypes::parse(&written, ["no_function"]).unwrap();
        assert!(none.functions.is_empty() && none.typedefs.is_empty());
        Btf::parse(&written, Endianness::default()).unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = KernelTypes::parse(&bytes, ["sock"]);
        }
    }
}
