//! User names by uid, from the text of `/etc/passwd` (passwd(5)).
//!
//! Kept out: reading the file, and NSS, which can block on the network and is absent from static builds.

use std::collections::BTreeMap;

/// A longer name is none (`LOGIN_NAME_MAX` of `limits.h`, less its NUL): bytes.
const LONGEST: usize = 255;

/// The users that a passwd file names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    names: BTreeMap<u32, Box<str>>,
}

impl Users {
    /// Reads the text of a passwd file. The first line of a uid gives its name, as with getpwuid(3).
    ///
    /// Lines that are not `name:password:uid:…` with a name in UTF-8 of at most 255 bytes and a decimal uid are passed over, and so are
    /// the `+` and `-` lines of NIS. A name is kept as it stands: whoever shows it escapes it.
    pub fn parse(text: &[u8]) -> Self {
        let mut names = BTreeMap::new();
        for (uid, name) in text.split(|&byte| byte == b'\n').filter_map(parse_line) {
            names.entry(uid).or_insert_with(|| name.into());
        }
        Self { names }
    }

    /// The name of a user; none when the file has none.
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(|name| &**name)
    }
}

fn parse_line(line: &[u8]) -> Option<(u32, &str)> {
    let mut fields = str::from_utf8(line).ok()?.split(':');
    let (name, _password, uid) = (fields.next()?, fields.next()?, fields.next()?);
    let is_name = (1..=LONGEST).contains(&name.len()) && !name.starts_with(['+', '-', '#']);
    let is_decimal = uid.bytes().all(|byte| byte.is_ascii_digit());
    (is_name && is_decimal).then(|| uid.parse().ok().map(|uid| (uid, name))).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_found_by_uid() {
        let users =
            Users::parse(b"root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\n");
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1000), Some("ada"));
        assert_eq!(users.name(1), None);
    }

    #[test]
    fn the_first_name_of_a_uid_wins() {
        assert_eq!(Users::parse(b"root:x:0:0::/:\ntoor:x:0:0::/:").name(0), Some("root"));
    }

    #[test]
    fn malformed_lines_do_not_hide_the_others() {
        let text =
            b"\n#c:x:1:\n+nis:x:2:\n-nis:x:3:\nshort:x\n:x:4:\nneg:x:-5:\nplus:x:+6:\nbig:x:4294967296:\n\
                     \xff:x:7:\nempty:x::\ngood:x:8";
        let users = Users::parse(text);
        assert_eq!(users.names.into_iter().collect::<Vec<_>>(), [(8, "good".into())]);
    }

    #[test]
    fn a_name_of_any_length_is_not_taken() {
        let name = "n".repeat(LONGEST);
        let users = Users::parse(format!("{name}:x:1:\nn{name}:x:2:\n").as_bytes());
        assert_eq!((users.name(1), users.name(2)), (Some(name.as_str()), None));
    }

    proptest! {
        #[test]
        fn parse_never_panics(text: Vec<u8>) {
            let _ = Users::parse(&text);
        }

        #[test]
        fn a_good_line_is_read_among_any_others(before in "[^\n]{0,40}", uid: u32) {
            let text = format!("{before}\nname-that-is-not-random:x:{uid}:0::/:\n");
            let users = Users::parse(text.as_bytes());
            prop_assert!(users.name(uid).is_some());
        }
    }
}
