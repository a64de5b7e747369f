//! Each kind of record against its literal line.

use serde_json::Value;

use super::*;
use crate::{
    model::{
        event::{LifeChange, Process, State},
        provenance::{Digest, Layer, Package, Provenance, Script, Sha256, Shipped, Unhashed},
    },
    output::{EventKind, Report, Verdict},
    sink::samples,
};

fn line(output: &Output, seq: u64, flag_seq: Option<u64>) -> String {
    let place = Place { seq, flag_seq, clock_offset: samples::CLOCK_OFFSET };
    let (mut renderer, mut bytes) = (Renderer::default(), Vec::new());
    for _ in 0..2 {
        // The second time what is known of the process is known already.
        bytes.clear();
        renderer.render(output, place, &mut bytes).unwrap();
        let by_serde = reference::line(output, place);
        assert!(by_serde.is_empty() || bytes == format!("{by_serde}\n").into_bytes());
    }
    let text = String::from_utf8(bytes).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'));
    serde_json::from_str::<Value>(line).unwrap();
    line.to_owned()
}

#[test]
fn a_flag_is_the_contracts_example() {
    let expected = concat!(
        r#"{"schema":1,"record":"flag","seq":7,"time":"2026-11-22T21:04:05.123456789Z","event":"listen","#,
        r#""attribution":"exact","verdict":"research","#,
        r#""rules":[{"id":"unexplained-listener","#,
        r#""why":"TCP port 4444 is open on every interface and nothing explains it"}],"#,
        r#""socket":{"id":"15006","netns":4026531840,"netns_name":null,"protocol":"tcp","family":"ipv4","#,
        r#""state":"LISTEN","#,
        r#""local":{"ip":"0.0.0.0","port":4444,"scope":"any"},"remote":null,"direction":null,"role":null},"#,
        r#""process":{"pid":4242,"ppid":4200,"comm":"nc","exe":"/usr/bin/nc.openbsd","#,
        r#""args":["nc","-l","4444"],"script":null,"package":null,"uid":1000,"user":"ada","login_uid":null,"login_user":null,"#,
        r#""session":null,"cgroup":null,"unit":null,"user_unit":null,"container":null,"#,
        r#""started":"2026-11-22T21:04:05.100000000Z","#,
        r#""lineage":[{"pid":4200,"comm":"bash","exe":"/usr/bin/bash"}]}}"#
    );
    assert_eq!(line(&samples::flag(1, samples::listener()), 7, None), expected);
}

#[test]
fn an_event_writes_what_is_not_known_as_null() {
    let mut report = samples::session(EventKind::Failed, State::Close);
    let expected = concat!(
        r#"{"schema":1,"record":"event","seq":2,"time":"2026-11-22T21:04:05.123456789Z","event":"failed","#,
        r#""error":null,"attribution":"unknown","process_unknown":"it ended before it was read","#,
        r#""verdict":"ok","rules":[],"#,
        r#""socket":{"id":"18446744073709551615","netns":null,"netns_name":null,"protocol":"tcp","#,
        r#""family":"ipv6","state":"CLOSE","local":{"ip":"2001:db8::5","port":null,"scope":"specific"},"#,
        r#""remote":{"ip":"2606:4700::1111","port":443,"class":"internet","service":"https"},"#,
        r#""direction":"outbound","role":null},"process":null}"#
    );
    assert_eq!(line(&samples::event(report.clone()), 2, None), expected);
    report.error = Some("ECONNREFUSED".into());
    let known = expected.replace(r#""error":null"#, r#""error":"ECONNREFUSED""#);
    assert_eq!(line(&samples::event(report), 2, None), known);
}

#[test]
fn a_close_has_bytes_and_duration_known_or_not() {
    let mut report = samples::session(EventKind::Close, State::Close);
    let unknown =
        r#""event":"close","bytes_sent":null,"bytes_received":null,"duration_ms":null,"attribution""#;
    assert!(line(&samples::event(report.clone()), 1, None).contains(unknown));
    (report.bytes_sent, report.bytes_received, report.duration_ms) = (Some(0), Some(77), Some(1204));
    let known = r#""event":"close","bytes_sent":0,"bytes_received":77,"duration_ms":1204,"attribution""#;
    assert!(line(&samples::event(report), 1, None).contains(known));
}

#[test]
fn a_process_that_could_not_be_read_has_nulls() {
    let expected = concat!(
        r#""attribution":"holder","verdict":"suspicious","#,
        r#""rules":[{"id":"twin-other-owner","why":"sshd owns TCP port 4444"},{"id":"unexplained-listener""#,
    );
    let text = line(&samples::event(samples::udp_server()), 1, None);
    assert!(text.contains(expected), "{text}");
    let process = concat!(
        r#""process":{"pid":4242,"ppid":null,"comm":null,"exe":null,"args":null,"script":null,"package":null,"uid":1000,"user":null,"#,
        r#""login_uid":null,"login_user":null,"session":null,"cgroup":null,"unit":null,"user_unit":null,"container":null,"#,
        r#""started":"2026-11-22T21:04:05.100000000Z","lineage":[{"pid":1,"comm":null,"exe":null}]}}"#
    );
    assert!(text.ends_with(process), "{text}");
    assert!(text.contains(r#""protocol":"udp""#) && text.contains(r#""role":"server""#), "{text}");
}

#[test]
fn where_a_process_belongs_and_what_its_namespace_is_called_are_told() {
    let mut report = samples::contained();
    report.socket.netns_name = Some("blue");
    let text = line(&samples::event(report), 1, None);
    assert!(text.contains(r#""netns":4026531840,"netns_name":"blue","protocol":"tcp""#), "{text}");
    let belongs = concat!(
        r#""uid":1000,"user":"ada","login_uid":1001,"login_user":"bob","session":3,"#,
        r#""cgroup":"/system.slice/docker-3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123.scope","#,
        r#""unit":"docker-3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123.scope","#,
        r#""user_unit":null,"#,
        r#""container":{"id":"3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123","#,
        r#""runtime":"docker"},"started":"#
    );
    assert!(text.contains(belongs), "{text}");
}

#[test]
fn a_clear_names_the_flag_that_it_takes_back() {
    let report = Report { verdict: Verdict::Explained, rules: &[], ..samples::listener() };
    let text = line(&samples::clear(1, report.clone()), 9, Some(7));
    assert!(text.starts_with(r#"{"schema":1,"record":"clear","seq":9,"#), "{text}");
    assert!(
        text.contains(r#""event":"listen","flag_seq":7,"attribution":"exact","verdict":"explained""#),
        "{text}"
    );
    assert!(line(&samples::clear(1, report), 9, None).contains(r#""flag_seq":null"#));
}

#[test]
fn counts_stand_where_there_are_any() {
    let report = Report { event: EventKind::Udp, count: Some(12), ..samples::udp_server() };
    assert!(line(&samples::event(report), 1, None).contains(r#""event":"udp","count":12,"attribution""#));
    assert!(!line(&samples::event(samples::udp_server()), 1, None).contains("count"));
}

#[test]
fn the_start_tells_what_is_seen_and_what_is_not() {
    let expected = concat!(
        r#"{"schema":1,"record":"start","seq":1,"time":"2026-11-22T21:04:05.123456789Z","#,
        r#""version":"0.1.0","kernel":"6.18.0","hooks":"tracepoint","#,
        r#""coverage":{"seen":[{"event":"listen","by":"state_change"}],"#,
        r#""unseen":[{"event":"bind","why":"no hook sees it"}]},"policy":["base.toml"],"provenance":true}"#
    );
    assert_eq!(line(&samples::start(), 1, None), expected);
}

#[test]
fn a_gap_tells_where_how_many_and_when() {
    let expected = concat!(
        r#"{"schema":1,"record":"gap","seq":3,"time":"2026-11-22T21:04:05.123456789Z","lost":5,"#,
        r#""stage":"ring","from":"2026-11-22T21:04:03.123456789Z","to":"2026-11-22T21:04:05.123456789Z","#,
        r#""resynced":false}"#
    );
    assert_eq!(line(&samples::gap(5), 3, None), expected);
}

#[test]
fn a_quiet_hook_is_told_with_what_it_saw_and_told_again_when_it_is_back() {
    let head = r#"{"schema":1,"record":"degraded","seq":3,"time":"2026-11-22T21:04:05.123456789Z","#;
    let quiet = r#""hook":"cgroup sendmsg4","unseen":["udp"],"why":"it was detached","delivers":false}"#;
    assert_eq!(line(&samples::degraded(false), 3, None), format!("{head}{quiet}"));
    let back = r#""hook":"cgroup sendmsg4","unseen":[],"why":"delivers again","delivers":true}"#;
    assert_eq!(line(&samples::degraded(true), 3, None), format!("{head}{back}"));
}

#[test]
fn the_end_counts() {
    let expected = concat!(
        r#"{"schema":1,"record":"end","seq":4,"time":"2026-11-22T21:04:05.123456789Z","events":1204,"#,
        r#""flags":3,"clears":1,"lost":5,"rules":{"unexplained-listener":2,"unexplained-session":1}}"#
    );
    assert_eq!(line(&samples::finish(), 4, None), expected);
}

#[test]
fn who_opened_and_who_holds_a_socket_stand_behind_the_process_where_they_differ() {
    let text = line(&samples::event(samples::shared_listener(1)), 1, None);
    let others = concat!(
        r#"}]},"opener":{"pid":1,"comm":"systemd","exe":null},"#,
        r#""holders":[{"pid":4242,"comm":"nc","exe":"/usr/bin/nc.openbsd"},"#,
        r#"{"pid":5000,"comm":"wor\\x1bker","exe":null}],"holders_count":2}"#
    );
    assert!(text.ends_with(others), "{text}");
    let held = Report { opener: None, ..samples::shared_listener(1) };
    assert!(line(&samples::event(held), 1, None).contains(r#"}]},"holders":[{"pid":4242,"#));
    let opened = Report { holders: &[], ..samples::shared_listener(1) };
    assert!(line(&samples::event(opened), 1, None).ends_with(r#""comm":"systemd","exe":null}}"#));
}

#[test]
fn of_many_holders_some_are_shown_and_all_are_counted() {
    let text = line(&samples::event(samples::shared_listener(40)), 1, None);
    assert_eq!(text.matches("/usr/sbin/a").count(), 14, "{text}");
    assert!(text.ends_with(r#"],"holders_count":41}"#), "{text}");
}

/// Every optional part, known and not, and texts that must be escaped: by hand as serde does.
#[test]
fn what_is_written_by_hand_is_what_serde_writes() {
    let texts = [None, Some(String::new()), Some("\"quoted\" \\ back\nline \u{1} \u{e9}".to_owned())];
    let numbers = [None, Some(0), Some(u64::MAX)];
    let kinds = [EventKind::Failed, EventKind::Close, EventKind::Udp, EventKind::Seen];
    let sessions = kinds.map(|event| samples::session(event, State::SynSent));
    let listeners = [samples::listener(), samples::shared_listener(20), samples::udp_server()];
    for base in sessions.into_iter().chain(listeners) {
        for (text, number) in texts.iter().zip(numbers) {
            let mut report = Report {
                error: text.clone(),
                explained_by: text.clone(),
                process_unknown: text.as_deref().map(Into::into),
                bytes_sent: number,
                bytes_received: number,
                duration_ms: number,
                count: number,
                ..base.clone()
            };
            report.socket.netns_name = text.as_deref();
            if let Some(remote) = &mut report.socket.remote {
                remote.service = text.as_deref();
                remote.end.ip = if number.is_none() { [9, 0, 100, 255].into() } else { remote.end.ip };
            }
            line(&samples::event(report.clone()), 1, None);
            line(&samples::flag(1, report.clone()), u64::MAX, None);
            line(&samples::clear(1, report), 7, number);
        }
    }
}

#[test]
fn an_exec_is_an_event_without_a_socket() {
    let exec = line(&samples::life(LifeChange::Exec), 7, None);
    let begin = concat!(
        r#"{"schema":1,"record":"event","seq":7,"time":"2026-11-22T21:04:05.123456789Z","event":"exec","#,
        r#""verdict":"ok","rules":[],"socket":null,"process":{"pid":4242,"ppid":4200,"comm":"nc","#,
    );
    assert!(exec.starts_with(begin), "{exec}");
    assert!(line(&samples::life(LifeChange::Exit), 8, None).contains(r#""event":"exit""#));
}

#[test]
fn a_script_and_a_package_are_named() {
    let found = Provenance {
        package: Package::Owned { name: "python3.11".into(), state: Shipped::Modified, believed: false },
        script: Some(Box::new(Script::Module("http.server".into()))),
        ..Provenance::default()
    };
    let fields = |found: Provenance| {
        let process = Process { provenance: Some(found), ..samples::netcat() };
        serde_json::to_string(&ProcessFields::new(&process, samples::CLOCK_OFFSET)).unwrap()
    };
    let module = r#""script":{"module":"http.server"},"package":{"name":"python3.11","intact":false},"#;
    let text = fields(found.clone());
    assert!(text.contains(module), "{text}");
    let file = Script::File { path: "/tmp/x.py".into(), found: Provenance::default() };
    let text = fields(Provenance { script: Some(Box::new(file)), package: Package::None, ..found });
    assert!(text.contains(r#""script":{"path":"/tmp/x.py"},"package":null,"#), "{text}");
}

#[test]
fn layer_and_digest_stand_where_they_were_looked_for() {
    let fields = |found: Provenance| {
        let process = Process { provenance: Some(found), ..samples::netcat() };
        serde_json::to_string(&ProcessFields::new(&process, samples::CLOCK_OFFSET)).unwrap()
    };
    let digest = |byte| Some(Box::new(Sha256::Is(Digest([byte; 32]))));
    let script = Provenance { layer: Some(Layer::Unknown), sha256: digest(0xab), ..Provenance::default() };
    let script = Script::File { path: "/x.py".into(), found: script };
    let found = Provenance {
        layer: Some(Layer::Upper),
        sha256: Some(Box::new(Sha256::Unknown(Unhashed::TooLarge))),
        script: Some(Box::new(script)),
        ..Provenance::default()
    };
    let script = format!(r#""script":{{"path":"/x.py","layer":null,"sha256":"{}"}},"#, "ab".repeat(32));
    let own = r#""package":null,"layer":"upper","sha256":null,"sha256_unknown":"the file is larger than 64 MiB","uid""#;
    let text = fields(found);
    assert!(text.contains(&format!("{script}{own}")), "{text}");
    let text = fields(Provenance::default());
    assert!(text.contains(r#""package":null,"uid""#), "{text}");
}
