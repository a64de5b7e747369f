//! What a program is called, whatever its version.

/// The name of the file at a path, without a version or a variant: `python` for `python3.11` and `perl` for
/// `perl5.36-x86_64-linux-gnu`, `nc` for `nc.openbsd`.
#[must_use]
pub fn plain_name(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let end = name.iter().position(|byte| byte.is_ascii_digit() || *byte == b'.');
    let name = &name[..end.unwrap_or(name.len())];
    name.strip_suffix(b"-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::plain_name;

    #[test]
    fn a_version_or_a_variant_is_left_out() {
        for (path, name) in [
            ("/usr/bin/python3.11", "python"),
            ("/usr/bin/python3.11-dbg", "python"),
            ("perl5.36-x86_64-linux-gnu", "perl"),
            ("/bin/nc.traditional", "nc"),
            ("/usr/bin/luajit-2.1.0", "luajit"),
            ("/usr/sbin/php-fpm8.2", "php-fpm"),
            ("/usr/sbin/sshd", "sshd"),
            ("/usr/bin/7z", ""),
            ("/usr/bin/", ""),
            ("", ""),
        ] {
            assert_eq!(plain_name(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }
}
