//! Tests of policies: what each key matches, what each mistake is told as, and that no text makes the parser panic.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn ok(text: &str) -> Policy {
    parse("p.toml", text).unwrap()
}

/// The policy of one entry named `x` with these keys.
fn entry(keys: &str) -> Policy {
    ok(&format!("[[expect]]\nname = \"x\"\n{keys}\n"))
}

/// The mistakes of a text, one a line.
fn mistakes(text: &str) -> Vec<String> {
    parse("p.toml", text).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The only mistake of an entry with these keys, which start on line 3.
#[track_caller]
fn mistake(keys: &str) -> String {
    let mut all = mistakes(&format!("[[expect]]\nname = \"x\"\n{keys}\n"));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn session() -> Subject<'static> {
    Subject {
        kind: Kind::Session,
        exe: Some("/usr/bin/curl"),
        user: Some("ada"),
        uid: Some(1000),
        unit: Some("user@1000.service"),
        user_unit: Some(r"app-gnome\\x2dterminal-7.scope"),
        container: None,
        direction: Some(Direction::Outbound),
        local_port: 40000,
        remote: Some((IpAddr::from([93, 184, 216, 34]), 443, RemoteClass::Internet)),
    }
}

fn listener() -> Subject<'static> {
    Subject {
        kind: Kind::Listener,
        exe: Some("/usr/sbin/nginx"),
        unit: Some("nginx.service"),
        user_unit: None,
        direction: None,
        remote: None,
        local_port: 443,
        ..session()
    }
}

fn is_explained(keys: &str, subject: &Subject<'_>) -> bool {
    entry(keys).explain(subject) == Some("x")
}

#[test]
fn each_key_matches_by_its_own_fact() {
    for (keys, listener_matches, session_matches) in [
        ("kind = \"listener\"", true, false),
        ("kind = [\"session\", \"udp\"]", false, true),
        ("exe = \"/usr/sbin/nginx\"", true, false),
        ("exe = [\"/usr/bin/curl\", \"/usr/sbin/nginx\"]", true, true),
        ("exe = \"/usr/bin/*\"", false, false),
        ("user = \"ada\"", true, true),
        ("user = 1000", true, true),
        ("user = \"1000\"", true, true),
        ("user = [\"root\", 0]", false, false),
        ("unit = \"nginx.service\"", true, false),
        ("unit = [\"ssh.service\", \"user@1000.service\"]", false, true),
        ("unit = \"nginx.servic\"", false, false),
        (r"user_unit = 'app-gnome\x2dterminal-7.scope'", false, true),
        ("user_unit = \"nginx.service\"", false, false),
        ("container = [\"docker\", \"podman\"]", false, false),
        ("direction = \"outbound\"", false, true),
        ("direction = \"inbound\"", false, false),
        ("local_port = 443", true, false),
        ("local_port = 0x1BB", true, false),
        ("local_port = \"32768-60999\"", false, true),
        ("local_port = [22, \"440 - 443\"]", true, false),
        ("remote_class = \"internet\"", false, true),
        ("remote_class = [\"private\", \"own\"]", false, false),
        ("remote_cidr = \"93.184.216.0/24\"", false, true),
        ("remote_cidr = \"93.184.216.34\"", false, true),
        ("remote_cidr = \"::ffff:93.184.0.0/112\"", false, true),
        ("remote_cidr = [\"10.0.0.0/8\", \"::/0\"]", false, false),
        ("remote_port = 443", false, true),
        ("remote_port = \"80\"", false, false),
        ("kind = \"listener\"\nexe = \"/usr/sbin/nginx\"\nuser = \"ada\"\nlocal_port = 443", true, false),
        ("kind = \"listener\"\nexe = \"/usr/sbin/nginx\"\nuser = \"root\"", false, false),
    ] {
        assert_eq!(is_explained(keys, &listener()), listener_matches, "listener: {keys}");
        assert_eq!(is_explained(keys, &session()), session_matches, "session: {keys}");
    }
}

#[test]
fn a_container_is_named_by_its_runtime_or_by_itself() {
    const ID: &str = "3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123";
    let named = |id: &str, runtime| Container { id: id.to_owned(), runtime: Some(runtime) };
    let (docker, lxc) = (named(ID, Runtime::Docker), named("docker", Runtime::Lxc));
    for (keys, docker_matches, lxc_matches) in [
        ("container = \"docker\"", true, false),
        ("container = \"lxc\"", false, true),
        ("container = \"cri-o\"", false, false),
        ("container = \"3f2a9c1b7d55\"", true, false),
        ("container = \"3f2a9c1b7d5\"", false, false),
        (&format!("container = \"{ID}\""), true, false),
        ("container = [\"docke\", \"lxc\"]", false, true),
    ] {
        let of = |container| Subject { container: Some(container), ..listener() };
        assert_eq!(is_explained(keys, &of(&docker)), docker_matches, "{keys}");
        assert_eq!(is_explained(keys, &of(&lxc)), lxc_matches, "{keys}");
    }
    let odd = Container { id: r"a\\b".to_owned(), runtime: None };
    assert!(is_explained(r"container = 'a\b'", &Subject { container: Some(&odd), ..listener() }));
}

#[test]
fn what_a_subject_does_not_have_is_not_matched() {
    let unknown = Subject {
        exe: None,
        user: None,
        uid: None,
        unit: None,
        user_unit: None,
        direction: None,
        remote: None,
        ..session()
    };
    for keys in [
        "exe = \"/usr/bin/curl\"",
        "unit = \"user@1000.service\"",
        r"user_unit = 'app-gnome\x2dterminal-7.scope'",
        "container = \"docker\"",
        "user = \"ada\"",
        "user = 1000",
        "direction = [\"inbound\", \"outbound\"]",
        "remote_class = \"internet\"",
        "remote_cidr = [\"0.0.0.0/0\", \"::/0\"]",
        "remote_port = \"1-65535\"",
    ] {
        assert!(!is_explained(keys, &unknown), "{keys}");
    }
}

#[test]
fn a_v4_mapped_remote_is_in_the_ipv4_network() {
    let mapped = "::ffff:93.184.216.34".parse().unwrap();
    let subject = Subject { remote: Some((mapped, 443, RemoteClass::Internet)), ..session() };
    assert!(is_explained("remote_cidr = \"93.184.216.34/32\"", &subject));
    assert!(!is_explained("remote_cidr = \"::/0\"", &subject));
}

#[test]
fn the_first_entry_that_matches_gives_its_name() {
    let policy = ok("[[expect]]\nname='dns'\nremote_port=53\n[[expect]]\nname='web'\nremote_port=443\n\
                     [[expect]]\nname='ada'\nuser='ada'\n");
    assert_eq!(policy.explain(&session()), Some("web"));
    assert_eq!(policy.explaining_entry(&session()).unwrap().line(), 5);
    assert_eq!(policy.explain(&listener()), Some("ada"));
    assert_eq!(policy.explain(&Subject { user: None, ..listener() }), None);
}

#[test]
fn an_empty_policy_explains_nothing() {
    for text in ["", "# nothing\n", "\u{feff}\n", "expect = []\n"] {
        assert_eq!(ok(text).explain(&session()), None);
    }
}

#[test]
fn a_misspelt_key_is_told_with_its_place_and_what_was_meant() {
    let text = "# policy\n[[expect]]\nname = \"x\"\n  exee = \"/bin/a\"\n";
    assert_eq!(mistakes(text), ["p.toml:4:3: unknown key `exee`, did you mean `exe`?"]);
    assert_eq!(mistakes("[[expekt]]\n"), ["p.toml:1:3: unknown key `expekt`, did you mean `expect`?"]);
    let far = mistake("colour = 1");
    assert!(far.starts_with("p.toml:3:1: unknown key `colour`, expected `name`, `kind`, "), "{far}");
    assert!(mistake("sub.exe = 1").starts_with("p.toml:3:1: unknown key `sub`, "));
}

#[test]
fn columns_count_characters_not_bytes() {
    let text = "expect = [{ name = \"äöü\", exee = \"/a\" }]\n";
    assert_eq!(mistakes(text), ["p.toml:1:27: unknown key `exee`, did you mean `exe`?"]);
}

#[test]
fn keys_of_a_later_version_are_refused_and_not_passed_over() {
    assert_eq!(mistake("remote_name = 1"), "p.toml:3:1: the key `remote_name` is not supported yet");
}

#[test]
fn wrong_types_and_values_are_told_at_the_value() {
    for (keys, expected) in [
        ("exe = 3", "3:7: expected a path in quotes, found a value of type integer"),
        (
            "exe = \"nginx\"",
            "3:7: the path `nginx` is not absolute: an executable is compared by its whole path",
        ),
        ("kind = \"listner\"", "3:8: `listner` is not known here, did you mean `listener`?"),
        ("kind = \"q\"", "3:8: `q` is not known here, expected `listener`, `session` or `udp`"),
        ("direction = true", "3:13: expected `inbound` or `outbound`, found a value of type boolean"),
        ("user = -1", "3:8: `-1` is out of range: expected 0 to 4294967295"),
        ("user = \"4294967296\"", "3:8: `4294967296` is out of range: expected 0 to 4294967295"),
        ("user = \"\"", "3:8: `` is not a user name"),
        ("unit = \"ssh\"", "3:8: `ssh` is not the whole name of a unit such as \"ssh.service\""),
        (
            "unit = \"a b.service\"",
            "3:8: `a b.service` is not the whole name of a unit such as \"ssh.service\"",
        ),
        (
            "user_unit = 7",
            "3:13: expected the whole name of a unit such as \"ssh.service\", found a value of type integer",
        ),
        (
            "container = \"\"",
            "3:13: `` is not a runtime such as \"docker\", or the name or id of a container, by at least 12 digits",
        ),
        ("local_port = 0", "3:14: `0` is out of range: expected 1 to 65535"),
        ("local_port = 65536", "3:14: `65536` is out of range: expected 1 to 65535"),
        (
            "local_port = 99999999999999999999",
            "3:14: `99999999999999999999` is out of range: expected 1 to 65535",
        ),
        ("local_port = \"9-5\"", "3:14: the range `9-5` is empty: its first port is the larger one"),
        ("remote_port = []", "3:15: an empty array matches nothing"),
        (
            "remote_class = [\"own\", \"internets\"]",
            "3:24: `internets` is not known here, did you mean `internet`?",
        ),
        ("remote_cidr = \"10.0.0.0/33\"", "3:15: `10.0.0.0/33` is not a network such as \"203.0.113.0/24\""),
        (
            "remote_cidr = \"10.0.0.1/8\"",
            "3:15: `10.0.0.1/8` has bits set behind its prefix, did you mean \"10.0.0.0/8\"?",
        ),
    ] {
        assert_eq!(mistake(keys), format!("p.toml:{expected}"));
    }
    for keys in [
        "local_port = 4.5",
        "local_port = [[1]]",
        "local_port = \"a\"",
        "local_port = \"+1-2\"",
        "local_port = \"1-\"",
    ] {
        assert!(mistake(keys).contains("a port such as 443 or a range"), "{keys}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_in_its_order() {
    let text = "[[expect]]\nuser = \"a\"\n\n[[expect]]\nname = \"b\"\n\n[[expect]]\nname = 3\nuesr = 1\nkind = []\n\n\
                [[expect]]\nname = \"b\"\nuser = 0\n[other]\n";
    assert_eq!(
        mistakes(text),
        [
            "p.toml:1:1: this entry has no `name`",
            "p.toml:4:1: this entry asks for nothing, so it would explain everything: add a key such as `exe`",
            "p.toml:8:8: expected a string, found a value of type integer",
            "p.toml:9:1: unknown key `uesr`, did you mean `user`?",
            "p.toml:10:8: an empty array matches nothing",
            "p.toml:13:8: the name `b` is taken by line 5",
            "p.toml:15:2: unknown key `other`, expected `expect`",
        ]
    );
}

#[test]
fn entries_in_another_form_than_an_array_of_tables_are_told() {
    assert_eq!(
        mistakes("[expect]\nname='x'\n"),
        ["p.toml:1:1: an entry is written under `[[expect]]`, with two brackets"]
    );
    assert_eq!(
        mistakes("expect = [{name='x', user=0}, 3]"),
        ["p.toml:1:31: an entry is a table under `[[expect]]`, not a value of type integer"]
    );
}

#[test]
fn names_are_neither_empty_nor_hold_control_characters() {
    assert_eq!(mistakes("[[expect]]\nname=' '\nuser=0"), ["p.toml:2:6: a name must not be empty"]);
    let text = "[[expect]]\nname=\"a\\u001bb\"\nuser=0";
    assert_eq!(mistakes(text), ["p.toml:2:6: a name must not hold control characters"]);
}

#[test]
fn text_that_is_not_toml_is_told_once_a_line() {
    assert_eq!(
        mistakes("[[expect]]\nname='a'\nname='b'\nuser=0"),
        ["p.toml:3:1: the key `name` is given twice"]
    );
    let broken = mistakes("[[expect]]\nname = \"x\nexe = ü\n");
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[0].starts_with("p.toml:2:10: "), "{broken:?}");
    assert!(broken[1].starts_with("p.toml:3:7: "), "{broken:?}");
}

#[test]
fn bytes_that_are_not_utf8_are_told_with_their_place() {
    let errors = parse_bytes("p.toml", b"\xef\xbb\xbf# \xc3\xa4\n# \xff").unwrap_err();
    assert_eq!(errors[0].to_string(), "p.toml:2:3: the file is not valid UTF-8 from here on");
    assert_eq!(parse_bytes("p.toml", b"").unwrap(), Policy::default());
}

#[test]
fn several_files_are_one_policy_in_their_order() {
    let mut policy = parse("a.toml", "[[expect]]\nname='a'\nuser='ada'\n").unwrap();
    policy.extend(parse("b.toml", "[[expect]]\nname='b'\nkind='session'\n").unwrap()).unwrap();
    assert_eq!(policy.explain(&session()), Some("a"));
    let bob = Subject { user: Some("bob"), ..session() };
    let explaining = policy.explaining_entry(&bob).unwrap();
    assert_eq!((explaining.name(), explaining.file(), explaining.line()), ("b", "b.toml", 2));
}

#[test]
fn a_name_that_two_files_share_is_told_and_nothing_is_taken_over() {
    let mut policy = parse("a.toml", "[[expect]]\nname='a'\nuser='ada'\n").unwrap();
    let before = policy.clone();
    let other = parse("b.toml", "[[expect]]\nname='c'\nuser=0\n\n[[expect]]\nname='a'\nuser=1\n").unwrap();
    let errors = policy.extend(other).unwrap_err();
    assert_eq!(errors[0].to_string(), "b.toml:6:6: the name `a` is taken by a.toml:2");
    assert_eq!((errors.len(), policy), (1, before));
}

fn toml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[[expect]]\n".to_owned()),
        "(name|exe|user|kind|local_port|remote_cidr|remote_class|unit|user_unit|container|exee)",
        "[ =\\[\\]{}\"',\n.#-]{1,3}",
        "[0-9]{1,6}",
        Just("\"ä\"\n".to_owned()),
        ".{0,4}",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn criterion() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "kind='session'",
        "kind='udp'",
        "user='ada'",
        "user=0",
        "unit='user@1000.service'",
        "remote_port=443",
        "remote_class='own'",
        "local_port='1-50000'",
    ])
}

proptest! {
    #[test]
    fn parse_never_panics_and_its_mistakes_lie_in_the_text(text in prop_oneof![toml_like(), any::<String>()]) {
        for error in parse("p", &text).err().unwrap_or_default() {
            let line = text.split('\n').nth(error.line - 1).unwrap();
            prop_assert!(error.column <= line.chars().count() + 1, "{error}");
            prop_assert!(!error.message.contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn parse_bytes_never_panics(bytes: Vec<u8>) {
        let _ = parse_bytes("p", &bytes);
    }

    #[test]
    fn explain_gives_the_first_entry_that_matches_alone(keys in prop::collection::vec(criterion(), 0..8)) {
        let text: String =
            keys.iter().enumerate().map(|(i, key)| format!("[[expect]]\nname='{i}'\n{key}\n")).collect();
        let alone = keys.iter().position(|key| is_explained(key, &session())).map(|i| i.to_string());
        prop_assert_eq!(ok(&text).explain(&session()).map(str::to_owned), alone);
    }
}
