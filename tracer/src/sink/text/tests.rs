//! Each kind of record against its literal line.

use super::*;
use crate::model::provenance::{Digest, Unhashed};
use crate::{
    model::belongs::{Container, Runtime},
    output::{Spoken, Verdict},
    sink::samples,
};

const HOME: View = View { colour: false, home: Some(4_026_531_840) };

fn text(output: &Output, view: View) -> String {
    let mut bytes = Vec::new();
    render(output, view, samples::CLOCK_OFFSET, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn expect(output: &Output, columns: &[&str]) {
    assert_eq!(text(output, HOME), columns.concat() + "\n");
}

#[test]
fn a_listener() {
    expect(
        &samples::flag(1, samples::listener()),
        &[
            "21:04:05.123  research    listen       tcp   0.0.0.0:4444             listening              ",
            "nc[4242] ada /usr/bin/nc.openbsd      ",
            "unexplained-listener: TCP port 4444 is open on every interface and nothing explains it",
        ],
    );
}

#[test]
fn what_is_longer_than_its_column_pushes() {
    expect(
        &samples::event(samples::session(EventKind::Connect, State::SynSent)),
        &[
            "21:04:05.123  ok          connect      tcp   [2001:db8::5]:?       -> [2606:4700::1111]:443  ",
            "? (it ended before it was read)",
        ],
    );
}

#[test]
fn a_udp_server_of_the_baseline_whose_process_is_not_readable() {
    expect(
        &samples::flag(1, samples::udp_server()),
        &[
            "21:04:05.123  suspicious  seen         udp   0.0.0.0:4444             server                 ",
            "?[4242] uid 1000 ?                    ",
            "twin-other-owner: sshd owns TCP port 4444; ",
            "unexplained-listener: TCP port 4444 is open on every interface and nothing explains it",
        ],
    );
}

#[test]
fn an_inbound_session_found_in_the_baseline_shows_its_state() {
    let mut report = samples::session(EventKind::Seen, State::FinWait1);
    report.socket.direction = Some(Direction::Inbound);
    report.attribution = Attribution::Listener;
    expect(
        &samples::event(report),
        &[
            "21:04:05.123  ok          FIN_WAIT1    tcp   [2001:db8::5]:?       <- [2606:4700::1111]:443  ",
            "? (listener) (it ended before it was read)",
        ],
    );
}

#[test]
fn another_namespace_is_named() {
    let mut report = samples::listener();
    report.rules = &[];
    report.attribution = Attribution::Holder;
    let line = text(&samples::event(report.clone()), View::default());
    assert!(line.ends_with("nc[4242] ada /usr/bin/nc.openbsd (holder) netns 4026531840\n"), "{line}");
    let line = text(&samples::event(report), HOME);
    assert!(line.ends_with("nc[4242] ada /usr/bin/nc.openbsd (holder)\n"), "{line}");
}

#[test]
fn a_namespace_with_a_name_is_called_by_it() {
    let mut report = samples::listener();
    report.rules = &[];
    report.socket.netns_name = Some("blue");
    let line = text(&samples::event(report.clone()), View::default());
    assert!(line.ends_with("nc[4242] ada /usr/bin/nc.openbsd netns blue\n"), "{line}");
}

#[test]
fn a_container_is_named_by_twelve_digits_and_who_logged_in_where_that_is_another() {
    expect(
        &samples::flag(1, samples::contained()),
        &[
            "21:04:05.123  research    listen       tcp   0.0.0.0:4444             listening              ",
            "nc[4242] ada (login bob) /usr/bin/nc.openbsd container docker 3f2a9c1b7d55  ",
            "unexplained-listener: TCP port 4444 is open on every interface and nothing explains it",
        ],
    );
}

#[test]
fn where_a_process_belongs_is_told_shortly() {
    let web = |runtime| Some(Container { id: "web".into(), runtime });
    let some = |name: &str| Some(name.to_owned());
    let (nothing, manager) = (Belongs::default(), some("user@1000.service"));
    for (belongs, shown) in [
        (nothing.clone(), "ada /usr/bin/nc.openbsd"),
        (Belongs { login_uid: Some(1000), ..nothing.clone() }, "ada /usr/bin/nc.openbsd"),
        (Belongs { login_uid: Some(0), ..nothing.clone() }, "ada (login uid 0) /usr/bin/nc.openbsd"),
        (Belongs { unit: some("ssh.service"), ..nothing.clone() }, "nc.openbsd unit ssh.service"),
        (
            Belongs { unit: manager.clone(), user_unit: some("app-x.scope"), ..nothing.clone() },
            "nc.openbsd user unit app-x.scope",
        ),
        (
            Belongs {
                unit: some("machine-web.scope"),
                container: web(Some(Runtime::Machine)),
                ..nothing.clone()
            },
            "nc.openbsd container machine web",
        ),
        (
            Belongs {
                unit: manager,
                user_unit: some("libpod-x.scope"),
                container: web(Some(Runtime::Podman)),
                ..nothing.clone()
            },
            "nc.openbsd unit user@1000.service container podman web",
        ),
        (Belongs { container: web(None), ..nothing }, "nc.openbsd container web"),
    ] {
        let report = Report { process: samples::belonging(belongs), rules: &[], ..samples::listener() };
        let line = text(&samples::event(report), HOME);
        assert!(line.ends_with(&format!("{shown}\n")), "{line}");
    }
}

#[test]
fn who_opened_it_and_who_holds_it_stand_beside_the_process() {
    let ends = [
        (1, r"opened by systemd[1], held by nc[4242], wor\x1bker[5000]"),
        (
            5,
            r"opened by systemd[1], held by nc[4242], wor\x1bker[5000], wor\x1bker[5001], wor\x1bker[5002] and 2 more",
        ),
    ];
    for (others, end) in ends {
        let report = Report { rules: &[], ..samples::shared_listener(others) };
        let line = text(&samples::event(report), HOME);
        assert!(line.ends_with(&format!("nc[4242] ada /usr/bin/nc.openbsd, {end}\n")), "{line}");
    }
}

#[test]
fn digests_stand_behind_the_process() {
    let digest = |byte| Some(Box::new(Sha256::Is(Digest([byte; 32]))));
    let script = Provenance { sha256: digest(2), ..Provenance::default() };
    let script = Some(Box::new(Script::File { path: "/x.py".into(), found: script }));
    let too_large = Some(Box::new(Sha256::Unknown(Unhashed::TooLarge)));
    for (sha256, script, end) in [
        (digest(1), None, format!("sha256 {}", "01".repeat(32))),
        (too_large, None, "sha256 ? (the file is larger than 64 MiB)".to_owned()),
        (digest(1), script, format!("sha256 {} /x.py sha256 {}", "01".repeat(32), "02".repeat(32))),
    ] {
        let provenance = Some(Provenance { sha256, script, ..Provenance::default() });
        let process = Arc::new(Process { provenance, ..samples::netcat() });
        let report = Report { process: Some(&process), rules: &[], ..samples::listener() };
        let line = text(&samples::event(report), HOME);
        assert!(line.ends_with(&format!("/usr/bin/nc.openbsd {end}\n")), "{line}");
    }
}

fn tail(output: &Output) -> String {
    let line = text(output, HOME);
    let (_, tail) = line.trim_end().split_once("it ended before it was read)").unwrap();
    tail.trim_start().to_owned()
}

#[test]
fn a_clear_says_what_became_of_the_flag() {
    let mut report = samples::session(EventKind::Close, State::Close);
    (report.bytes_sent, report.duration_ms) = (Some(120), Some(1204));
    let line = text(&samples::clear(1, report.clone()), HOME);
    assert!(line.starts_with("21:04:05.123  clear       close        tcp "), "{line}");
    let closed = "flag over, the socket is closed; sent 120 B, received ? B; after 1.204 s";
    assert_eq!(tail(&samples::clear(1, report)), closed);
    let mut report = samples::session(EventKind::Established, State::Established);
    report.verdict = Verdict::Explained;
    let twin = [Spoken { rule: "udp-twin", why: "the TCP port explains it".to_owned().into() }];
    report.rules = &twin;
    let explained = "flag taken back, now explained; udp-twin: the TCP port explains it";
    assert_eq!(tail(&samples::clear(1, report)), explained);
}

#[test]
fn a_failed_connect_says_why() {
    let mut report = samples::session(EventKind::Failed, State::Close);
    assert_eq!(tail(&samples::event(report.clone())), "unknown error");
    report.error = Some("ECONNREFUSED".into());
    report.duration_ms = Some(35);
    assert_eq!(tail(&samples::event(report)), "ECONNREFUSED; after 35 ms");
}

#[test]
fn datagrams_are_counted() {
    let mut report = samples::session(EventKind::Udp, State::Established);
    report.count = Some(1);
    assert_eq!(tail(&samples::event(report.clone())), "1 datagram");
    report.count = Some(12);
    assert_eq!(tail(&samples::event(report)), "12 datagrams");
}

#[test]
fn durations_keep_two_units() {
    let expected = [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.000 s"),
        (59_999, "59.999 s"),
        (60_000, "1 min 0 s"),
        (3_599_999, "59 min 59 s"),
        (7_380_000, "2 h 3 min"),
    ];
    for (ms, text) in expected {
        assert_eq!(duration(ms), text);
    }
}

#[test]
fn the_start_is_a_heading() {
    expect(
        &samples::start(),
        &[
            "tracer 0.1.0 on Linux 6.18.0, hooks tracepoint, 2026-11-22 21:04:05 UTC, policy base.toml; ",
            "1 part stays unseen, see `tracer doctor`\n",
            "TIME (UTC)    VERDICT     EVENT              LOCAL                    REMOTE                 ",
            "PROCESS                               WHY",
        ],
    );
}

#[test]
fn a_gap_says_where_and_when() {
    expect(
        &samples::gap(12),
        &[
            "21:04:05.123  gap         12 events lost from 21:04:03.123 to 21:04:05.123: the ring was full; ",
            "the sockets were not read again yet",
        ],
    );
}

#[test]
fn a_quiet_hook_is_told_with_what_may_be_missed() {
    let quiet = "21:04:05.123  degraded    cgroup sendmsg4: it was detached; may be missed: udp";
    expect(&samples::degraded(false), &[quiet]);
    expect(&samples::degraded(true), &["21:04:05.123  degraded    cgroup sendmsg4: delivers again"]);
}

#[test]
fn the_end_sums_up() {
    expect(
        &samples::finish(),
        &[
            "21:04:05.123  end         1204 events, 3 flags, 1 taken back, 5 lost; ",
            "unexplained-listener 2, unexplained-session 1",
        ],
    );
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let outputs = [
        samples::start(),
        samples::flag(1, samples::listener()),
        samples::clear(1, samples::listener()),
        samples::event(samples::udp_server()),
        samples::gap(1),
        samples::degraded(false),
        samples::finish(),
    ];
    for output in outputs {
        let coloured = text(&output, View { colour: true, ..HOME });
        assert!(coloured.contains("\u{1b}["), "{coloured}");
        assert_eq!(without_colour(&coloured), text(&output, HOME));
    }
}

/// Takes out `ESC [ … m`.
fn without_colour(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').unwrap().1)
}

#[test]
fn research_is_yellow_and_suspicious_is_red() {
    let view = View { colour: true, ..HOME };
    let line = text(&samples::flag(1, samples::listener()), view);
    assert!(line.contains("\u{1b}[33mresearch\u{1b}[0m    listen"), "{line:?}");
    let line = text(&samples::flag(1, samples::udp_server()), view);
    assert!(line.contains("\u{1b}[1m\u{1b}[31msuspicious\u{1b}[0m  seen"), "{line:?}");
}

#[test]
fn an_exec_shows_what_was_run_and_an_exit_who_ended() {
    for (change, word, arguments) in
        [(LifeChange::Exec, "exec", "nc -l 4444"), (LifeChange::Exit, "exit", "nc.openbsd")]
    {
        let line = text(&samples::life(change), HOME);
        let begin = format!("21:04:05.123  ok          {word} ");
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.contains("nc[4242] ada /usr/bin/nc.openbsd"), "{line}");
        assert!(line.trim_end().ends_with(arguments), "{line}");
    }
}
