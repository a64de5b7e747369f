//! Cgroups as runtimes and service managers name them, and as nobody does.

use proptest::prelude::*;

use super::*;

const ID: &str = "3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123";
const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const POD: &str = "pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";

/// Path, unit and user's unit of a text, `ID`, `OTHER` and `POD` in it replaced; a `-` where there is none.
fn placed(text: &str) -> (String, String, String) {
    let text = whole(text);
    let placement = Placement::parse(text.as_bytes());
    let path = placement.path.map_or("-".into(), String::from_utf8_lossy);
    let name = |unit: Option<&str>| unit.unwrap_or("-").to_owned();
    (path.into_owned(), name(placement.unit), name(placement.user_unit))
}

/// Runtime and id of the container, `?` for a runtime that is not known; a `-` where there is none.
fn contained(text: &str) -> String {
    let text = whole(text);
    let Some(Contained { id, runtime }) = Placement::parse(text.as_bytes()).container else {
        return "-".to_owned();
    };
    let runtime = runtime.map_or("?", Runtime::as_str);
    format!("{runtime} {}", String::from_utf8_lossy(&id).replace(ID, "ID").replace(OTHER, "OTHER"))
}

fn whole(text: &str) -> String {
    text.replace("OTHER", OTHER).replace("ID", ID).replace("POD", POD)
}

/// A path as version 2 tells it.
fn v2(path: &str) -> String {
    format!("0::{path}\n")
}

#[test]
fn units_of_the_system_and_of_users_are_told_apart() {
    for (path, unit, user_unit) in [
        ("/", "-", "-"),
        ("/init.scope", "init.scope", "-"),
        ("/system.slice/ssh.service", "ssh.service", "-"),
        ("/system.slice/ssh.service/control", "ssh.service", "-"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "-"),
        (r"/system.slice/system-postgresql.slice/pg@15\x2dmain.service", r"pg@15\x2dmain.service", "-"),
        (r"/system.slice/dev-disk-by\x2duuid-1.swap", r"dev-disk-by\x2duuid-1.swap", "-"),
        ("/system.slice/tmp.mount", "tmp.mount", "-"),
        ("/system.slice", "system.slice", "-"),
        ("/system.slice/not a unit/x.service", "system.slice", "-"),
        ("/system.slice/_memory.service", "memory.service", "-"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "-"),
        ("/user.slice/user-1000.slice/session-3.scope/x.service", "session-3.scope", "-"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service", "init.scope"),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service", "-"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
            "user@1000.service",
            "app-x.scope",
        ),
        (
            r"/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome\x2dterminal-77.scope",
            "user@1000.service",
            r"app-gnome\x2dterminal-77.scope",
        ),
        (
            // Whoever has a manager of his own may call a unit as he likes.
            "/user.slice/user-1000.slice/user@1000.service/system.slice/ssh.service",
            "user@1000.service",
            "ssh.service",
        ),
        ("/docker/ID/system.slice/ssh.service", "-", "-"),
        ("/lxc.payload.web/system.slice/ssh.service", "-", "-"),
        ("/lxc.payload.x.service/system.slice/ssh.service", "-", "-"),
        ("/system.slice/docker-ID.scope/system.slice/ssh.service", "docker-ID.scope", "-"),
        ("/kubepods.slice/kubepods-POD.slice/cri-containerd-ID.scope", "cri-containerd-ID.scope", "-"),
        ("/kubepods/besteffort/POD/ID", "-", "-"),
        ("/../ssh.service", "ssh.service", "-"),
        ("/../../user.slice/user-1000.slice/session-3.scope", "session-3.scope", "-"),
        ("/../../..", "-", "-"),
    ] {
        let (path, unit) = (whole(path), whole(unit));
        assert_eq!(placed(&v2(&path)), (path, unit, user_unit.to_owned()));
    }
}

#[test]
fn containers_are_known_by_the_names_that_their_runtimes_give() {
    for (path, container) in [
        // Docker: by cgroupfs, by systemd, below another parent, rootless, with systemd inside.
        ("/docker/ID", "docker ID"),
        ("/docker/ID/system.slice/ssh.service", "docker ID"),
        ("/system.slice/docker-ID.scope", "docker ID"),
        ("/system.slice/docker-ID.scope/init.scope", "docker ID"),
        ("/ecstasks.slice/ecstasks-a1b2.slice/docker-ID.scope", "docker ID"),
        ("/ecs/0123456789abcdef0123456789abcdef/ID", "? ID"),
        ("/actions_job/ID", "? ID"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", "docker ID"),
        ("/system.slice:docker:ID", "docker ID"),
        // Podman: by systemd, rootless, in a pod, in a unit of its own, by cgroupfs; its monitor is outside.
        ("/machine.slice/libpod-ID.scope", "podman ID"),
        ("/machine.slice/libpod-ID.scope/container", "podman ID"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container", "podman ID"),
        ("/machine.slice/machine-libpod_pod_OTHER.slice/libpod-ID.scope", "podman ID"),
        ("/system.slice/web.service/libpod-payload-ID", "podman ID"),
        ("/system.slice/web.service/supervisor", "-"),
        ("/libpod_parent/libpod-ID", "podman ID"),
        ("/libpod_parent/OTHER/libpod-ID", "podman ID"),
        ("/machine.slice/libpod-conmon-ID.scope", "-"),
        // CRI-O; its monitor is outside.
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-POD.slice/crio-ID.scope", "cri-o ID"),
        ("/kubepods.slice/kubepods-besteffort.slice/kubepods-POD.slice/crio-ID.scope/container", "cri-o ID"),
        ("/kubepods/burstable/POD/crio-ID", "cri-o ID"),
        ("/system.slice/crio-conmon-ID.scope", "-"),
        // containerd, for Kubernetes and for nerdctl.
        ("/kubepods.slice/kubepods-POD.slice/cri-containerd-ID.scope", "containerd ID"),
        ("/system.slice/containerd.service/kubepods-burstable-POD.slice:cri-containerd:ID", "containerd ID"),
        ("/system.slice/nerdctl-ID.scope", "containerd ID"),
        ("/k8s.io/ID", "containerd ID"),
        ("/default/ID", "? ID"),
        ("/system.slice/containerd.service", "-"),
        // Kubernetes by cgroupfs, whose names do not tell the runtime; by Docker; a pod without a container.
        ("/kubepods/besteffort/POD/ID", "kubepods ID"),
        ("/kubepods/POD/ID", "kubepods ID"),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-POD.slice/ID", "kubepods ID"),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-POD.slice/docker-ID.scope",
            "docker ID",
        ),
        ("/kubepods/besteffort/POD", "-"),
        // LXC of all ages; its monitor is outside.
        ("/lxc/web", "lxc web"),
        ("/lxc/101/ns/system.slice/ssh.service", "lxc 101"),
        ("/lxc.payload/web", "lxc web"),
        ("/lxc.payload.web", "lxc web"),
        ("/lxc.payload.web-1.example/init.scope", "lxc web-1.example"),
        ("/lxc.monitor.web", "-"),
        ("/lxc.monitor/web", "-"),
        ("/lxc", "-"),
        ("/lxc.payload.", "-"),
        ("/system.slice/lxc.service", "-"),
        // systemd-nspawn and libvirt; what runs a virtual machine is outside, as nspawn itself is.
        ("/machine.slice/machine-web.scope", "machine web"),
        (r"/machine.slice/machine-web\x2dfront.scope/payload/init.scope", "machine web-front"),
        ("/machine.slice/systemd-nspawn@web.service/payload/system.slice/ssh.service", "machine web"),
        (r"/machine.slice/systemd-nspawn@web\x2dfront.service", "machine web-front"),
        ("/machine.slice/systemd-nspawn@web.service/supervisor", "-"),
        (r"/machine.slice/machine-lxc\x2d7\x2dweb.scope", "machine lxc-7-web"),
        (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator", "-"),
        // One in another: what the host runs is named.
        ("/docker/ID/docker/OTHER", "docker ID"),
        (
            "/docker/ID/kubelet.slice/kubelet-kubepods.slice/kubelet-POD.slice/cri-containerd-OTHER.scope",
            "docker ID",
        ),
        ("/lxc.payload.web/system.slice/docker-ID.scope", "lxc web"),
        // From inside a cgroup namespace.
        ("/../OTHER", "? OTHER"),
        ("/../docker-ID.scope", "docker ID"),
        ("/../../kubepods-POD.slice/cri-containerd-ID.scope", "containerd ID"),
        ("/", "-"),
        ("/system.slice/ssh.service", "-"),
    ] {
        assert_eq!(contained(&v2(path)), container, "{path}");
    }
}

#[test]
fn what_only_looks_like_a_container_is_none() {
    let digits = &ID[1..];
    let long = format!("/docker-{}.scope", "a".repeat(5000));
    let upper = format!("/system.slice/docker-{}.scope", ID.to_uppercase());
    for path in [
        "/system.slice/docker.service",
        "/system.slice/docker-registry.service",
        "/system.slice/docker-compose-zzzz.scope",
        "/docker-\u{1b}[31m.scope",
        "/docker/buildkit/k2jd8xhs7q1",
        "/docker/short",
        "/libpod-.scope",
        "/crio-",
        "/:docker:",
        "/machine-.scope",
        "/evildocker-ID.scope",
        "/docker-ID.service",
        &format!("/docker-{digits}.scope"),
        &format!("/docker-{ID}0.scope"),
        &format!("/{digits}g"),
        &long,
        &upper,
    ] {
        assert_eq!(contained(&v2(path)), "-", "{path}");
    }
}

#[test]
fn names_are_given_as_their_bytes_are() {
    let hostile = b"0::/lxc.payload.a\x1b[31m\xff:b\n";
    let placement = Placement::parse(hostile);
    assert_eq!(placement.path, Some(b"/lxc.payload.a\x1b[31m\xff:b".as_slice()));
    assert_eq!(
        placement.container.map(|container| container.id.into_owned()),
        Some(b"a\x1b[31m\xff:b".into())
    );
    for path in
        ["/system.slice/a\u{202e}b.service", "/a b.service", "/\u{1b}.service", "/.service", "/service"]
    {
        let (_, unit, _) = placed(&v2(path));
        assert!(matches!(unit.as_str(), "-" | "system.slice"), "{path}: {unit}");
    }
    assert_eq!(unescaped(br"a\x2db\x2\xzz\\x41\"), br"a-b\x2\xzz\A\".as_slice());
}

#[test]
fn a_cgroup_that_was_removed_is_named_as_before() {
    let placed = placed("0::/system.slice/ssh.service (deleted)\n");
    assert_eq!(placed, ("/system.slice/ssh.service".into(), "ssh.service".into(), "-".into()));
}

#[test]
fn version_1_is_read_by_the_hierarchy_of_systemd() {
    let text = "12:cpuset:/\n11:memory:/system.slice/ssh.service\n4:cpu,cpuacct:/elsewhere\n\
                1:name=systemd:/system.slice/ssh.service\n0::/\n";
    assert_eq!(placed(text), ("/system.slice/ssh.service".into(), "ssh.service".into(), "-".into()));
    let docker = "11:memory:/docker/ID\n4:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n";
    assert_eq!(contained(docker), "docker ID");
    assert_eq!(placed(docker), (whole("/docker/ID"), "-".into(), "-".into()));
    let lxc = "12:name=systemd:/lxc/web/init.scope\n3:freezer:/lxc/web\n";
    assert_eq!(contained(lxc), "lxc web");
}

#[test]
fn both_versions_at_once_tell_the_same() {
    let text = "4:memory:/user.slice/user-1000.slice\n1:name=systemd:/user.slice/user-1000.slice/session-2.scope\n\
                0::/user.slice/user-1000.slice/session-2.scope\n";
    let path = "/user.slice/user-1000.slice/session-2.scope";
    assert_eq!(placed(text), (path.into(), "session-2.scope".into(), "-".into()));
}

#[test]
fn controllers_alone_tell_path_and_container_but_no_unit() {
    let text = "9:name=systemd:/\n4:memory:/somewhere/ID\n1:cpu:/x.service\n0::/\n";
    assert_eq!(placed(text), (whole("/somewhere/ID"), "-".into(), "-".into()));
    assert_eq!(contained(text), "? ID");
    assert_eq!(placed("9:name=systemd:/\n4:memory:/\n"), ("/".into(), "-".into(), "-".into()));
}

#[test]
fn what_is_no_line_of_it_is_passed_over() {
    for text in ["", "\n\n", "0:", "0::", "0::x", "::", "hello", "\u{0}"] {
        assert_eq!(Placement::parse(text.as_bytes()), Placement::default(), "{text:?}");
    }
    assert_eq!(placed("garbage\n0::/init.scope"), ("/init.scope".into(), "init.scope".into(), "-".into()));
}

fn path_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"/".to_vec()),
        Just(b"0::/".to_vec()),
        Just(b"1:name=systemd:/".to_vec()),
        Just(ID.as_bytes().to_vec()),
        "(docker|libpod|crio|lxc|lxc\\.payload\\.|machine-|systemd-nspawn@|kubepods|user@1000|\\.\\.)"
            .prop_map(String::into_bytes),
        "(\\.service|\\.scope|\\.slice|-|:|_|\\\\x2d|\\\\x|\n)".prop_map(String::into_bytes),
        any::<Vec<u8>>(),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop_oneof![path_like(), any::<Vec<u8>>()]) {
        let placement = Placement::parse(&bytes);
        for unit in [placement.unit, placement.user_unit].into_iter().flatten() {
            prop_assert!(unit.bytes().all(|byte| byte.is_ascii_graphic()), "{unit:?}");
        }
        prop_assert!(placement.container.is_none_or(|container| !container.id.is_empty()));
    }
}
