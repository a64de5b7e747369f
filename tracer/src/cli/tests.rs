//! What is typed against what it is taken for.

use clap::error::ErrorKind;

use super::*;

fn typed(words: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(["tracer"].into_iter().chain(words.split_whitespace())).map(Cli::command)
}

fn live(words: &str) -> LiveArgs {
    match typed(words) {
        Ok(Command::Live(args)) => args,
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command_definition().debug_assert();
}

#[test]
fn no_command_is_live() {
    for words in ["", "--json", "--all --policy a.toml --policy b.toml", "--duration 0.5 --netns self"] {
        assert_eq!(live(words), live(&format!("live {words}")), "{words}");
    }
}

#[test]
fn live_takes_its_options() {
    let typed = live(
        "--json --all --policy a --policy b --no-provenance --hooks tracepoint --strict --record r --duration 1.5 \
         --self-test 0.5 --ready-file f --netns 4026531840 --color never",
    );
    let watch = WatchArgs {
        policy: vec!["a".into(), "b".into()],
        no_provenance: true,
        netns: Some(NetnsArg::Id(4_026_531_840)),
        hooks: HooksArg::Tracepoint,
        strict: true,
        record: Some("r".into()),
    };
    let expected = LiveArgs {
        print: PrintArgs { json: true, color: Color::Never },
        all: true,
        watch,
        duration: Some(Duration::from_millis(1500)),
        self_test: Duration::from_millis(500),
        ready_file: Some("f".into()),
    };
    assert_eq!(typed, expected);
}

#[test]
fn without_options_live_takes_the_defaults() {
    let expected = LiveArgs {
        print: PrintArgs { json: false, color: Color::Auto },
        all: false,
        watch: WatchArgs {
            policy: vec![],
            no_provenance: false,
            netns: None,
            hooks: HooksArg::Auto,
            strict: false,
            record: None,
        },
        duration: None,
        self_test: Duration::from_secs(180),
        ready_file: None,
    };
    assert_eq!(live(""), expected);
}

#[test]
fn other_commands_take_theirs() {
    let list = ListArgs {
        print: PrintArgs { json: true, color: Color::Auto },
        all: false,
        watch: live("--netns /run/netns/a --strict").watch,
        hash: true,
        exit_code: true,
    };
    let replay = ReplayArgs {
        file: "-".into(),
        policy: vec!["p".into()],
        no_provenance: true,
        print: PrintArgs { json: true, color: Color::Auto },
        all: true,
        exit_code: true,
    };
    for (words, expected) in [
        ("list --json --netns /run/netns/a --strict --hash --exit-code", Command::List(list)),
        ("replay - --policy p --no-provenance --json --all --exit-code", Command::Replay(replay)),
        ("explain", Command::Explain(ExplainArgs { rule: None })),
        ("explain udp-twin", Command::Explain(ExplainArgs { rule: Some("udp-twin".to_owned()) })),
        ("doctor", Command::Doctor(DoctorArgs { programs: false })),
        ("policy check a.toml", Command::Policy(PolicyCommand::Check { file: "a.toml".into() })),
        ("completions bash", Command::Completions(CompletionsArgs { shell: Shell::Bash })),
        ("man", Command::Man),
    ] {
        assert_eq!(typed(words).unwrap(), expected, "{words}");
    }
}

#[test]
fn every_hook_plan_has_its_name() {
    for name in ["auto", "fentry", "kprobe", "tracepoint", "poll"] {
        let hooks = live(&format!("--hooks {name}")).watch.hooks;
        assert_eq!(hooks.to_possible_value().unwrap().get_name(), name);
    }
}

#[test]
fn a_namespace_is_a_number_a_path_or_self() {
    for (word, expected) in [
        ("self", NetnsArg::SelfNs),
        ("0", NetnsArg::Id(0)),
        ("4294967295", NetnsArg::Id(u32::MAX)),
        ("./12", NetnsArg::Path("./12".into())),
        ("/proc/1/ns/net", NetnsArg::Path("/proc/1/ns/net".into())),
    ] {
        assert_eq!(live(&format!("--netns {word}")).watch.netns, Some(expected));
    }
    assert!(netns(OsString::new()).is_err());
}

#[test]
fn wrong_usage_is_refused_with_2() {
    for words in [
        "--bogus",
        "bogus",
        "learn",
        "--hooks magic",
        "--color blue",
        "--duration 0",
        "--duration -1",
        "--duration=-1",
        "--duration nan",
        "--duration inf",
        "--duration 1e300",
        "--duration ten",
        "--netns 4294967296",
        "--exit-code",
        "--json list",
        "live --exit-code",
        "list --duration 1",
        "list --ready-file f",
        "replay",
        "replay a b",
        "replay a --hooks auto",
        "explain a b",
        "doctor x",
        "policy",
        "policy check",
        "completions",
        "completions tcsh",
    ] {
        let error = typed(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words}: {error}");
    }
}

#[test]
fn help_and_version_end_well() {
    for (words, kind) in [
        ("-h", ErrorKind::DisplayHelp),
        ("--help", ErrorKind::DisplayHelp),
        ("list --help", ErrorKind::DisplayHelp),
        ("-V", ErrorKind::DisplayVersion),
        ("--version", ErrorKind::DisplayVersion),
    ] {
        let error = typed(words).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (kind, 0), "{words}");
    }
}

#[test]
fn help_tells_of_the_exit_codes() {
    let help = typed("--help").unwrap_err().to_string();
    assert!(help.contains("Exit codes:") && help.contains("tracer replay run.jsonl"), "{help}");
}

#[test]
fn colours_follow_the_terminal_and_no_color() {
    let (set, empty) = (Some(OsStr::new("1")), Some(OsStr::new("")));
    for (color, terminal, no_color, expected) in [
        (Color::Auto, true, None, true),
        (Color::Auto, true, empty, true),
        (Color::Auto, true, set, false),
        (Color::Auto, false, None, false),
        (Color::Always, false, set, true),
        (Color::Never, true, None, false),
    ] {
        assert_eq!(color.wanted(terminal, no_color), expected, "{color:?} {terminal} {no_color:?}");
    }
}

#[test]
fn completions_know_the_options() {
    for shell in Shell::value_variants() {
        let mut text = Vec::new();
        completions(*shell, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("ready-file") && text.contains("replay"), "{shell}: {text}");
    }
}
