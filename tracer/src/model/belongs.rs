//! Where a process belongs: who logged in for it, and which part of the machine it is.

use serde::{Deserialize, Serialize};

/// Digits of a container's id as its runtime gives it: 256 bits.
pub(super) const ID_DIGITS: usize = 64;
/// Digits of such an id that name it, as the runtimes' own tools print them.
const SHORT_ID: usize = 12;

/// Where a process belongs. Fork passes all of it on, and neither exec nor another user id changes it. What could not be read,
/// and what there is not, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Belongs {
    /// User id of who logged in, whoever the process has become since (`/proc/PID/loginuid`).
    pub login_uid: Option<u32>,
    /// Name of that user, escaped.
    pub login_user: Option<String>,
    /// Number of the login's session (`/proc/PID/sessionid`); that of systemd-logind, where audit is on.
    pub session: Option<u32>,
    /// Path of its cgroup as the tracer's cgroup namespace shows it, escaped.
    pub cgroup: Option<String>,
    /// Unit of the system's service manager, as `systemctl` lists it, escaped.
    pub unit: Option<String>,
    /// Unit of a user's service manager, as `systemctl --user` lists it, escaped; `unit` is that manager then. Its user chose
    /// the name.
    pub user_unit: Option<String>,
    /// The outermost container that it is in.
    pub container: Option<Container>,
}

impl Belongs {
    /// True where a child may be taken to belong there too. A service manager puts what it begins elsewhere at once.
    #[must_use]
    pub fn passes_on(&self) -> bool {
        let manager = Some("init.scope");
        self.unit.as_deref() != manager && self.user_unit.as_deref() != manager
    }
}

/// A container, by the name of its cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Its id, 64 hexadecimal digits; its name, where LXC or systemd runs it. Escaped.
    pub id: String,
    /// What runs it; nothing where the cgroup does not say.
    pub runtime: Option<Runtime>,
}

impl Container {
    /// As its runtime's tools name it: an id by its first digits.
    #[must_use]
    pub fn short(&self) -> &str {
        if is_id(self.id.as_bytes()) { self.id.get(..SHORT_ID).unwrap_or(&self.id) } else { &self.id }
    }

    /// True when it is meant: by its whole name or id, or by at least the first 12 digits of its id.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || (name.len() >= SHORT_ID && is_id(self.id.as_bytes()) && self.id.starts_with(name))
    }
}

/// True for an id as runtimes give it.
pub(super) fn is_id(text: &[u8]) -> bool {
    text.len() == ID_DIGITS && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, for Kubernetes or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// A runtime of Kubernetes that leaves no name of its own.
    Kubepods,
    /// LXC, LXD or Incus.
    Lxc,
    /// What `machinectl` lists: systemd-nspawn, or LXC by libvirt.
    Machine,
}

impl Runtime {
    /// All runtimes, in their order.
    pub const ALL: [Self; 7] =
        [Self::Docker, Self::Containerd, Self::CriO, Self::Podman, Self::Kubepods, Self::Lxc, Self::Machine];

    /// The name in records and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Kubepods => "kubepods",
            Self::Lxc => "lxc",
            Self::Machine => "machine",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c1b7d550123456789abcdef0123456789abcdef0123456789abcdef0123";

    fn container(id: &str) -> Container {
        Container { id: id.to_owned(), runtime: None }
    }

    #[test]
    fn an_id_is_shown_by_its_first_digits_and_a_name_whole() {
        assert_eq!(container(ID).short(), "3f2a9c1b7d55");
        for name in ["web", "a-name-that-is-longer-than-twelve", ""] {
            assert_eq!(container(name).short(), name);
        }
    }

    #[test]
    fn an_id_is_named_by_twelve_digits_or_more_and_a_name_by_all_of_it() {
        for (id, name, is_called) in [
            (ID, ID, true),
            (ID, "3f2a9c1b7d55", true),
            (ID, "3f2a9c1b7d550123", true),
            (ID, "3f2a9c1b7d5", false),
            (ID, "3f2a9c1b7d56", false),
            (ID, "", false),
            ("web", "web", true),
            ("a-name-that-is-longer-than-twelve", "a-name-that-is", false),
        ] {
            assert_eq!(container(id).is_called(name), is_called, "{id} {name}");
        }
    }

    #[test]
    fn runtimes_are_recorded_by_their_names() {
        for runtime in Runtime::ALL {
            let recorded = serde_json::to_string(&runtime).unwrap();
            assert_eq!(recorded, format!("\"{}\"", runtime.as_str()));
        }
    }

    #[test]
    fn a_service_manager_passes_nothing_on() {
        let of = |unit: &str, user_unit: Option<&str>| Belongs {
            unit: Some(unit.to_owned()),
            user_unit: user_unit.map(str::to_owned),
            ..Belongs::default()
        };
        assert!(!of("init.scope", None).passes_on());
        assert!(!of("user@1000.service", Some("init.scope")).passes_on());
        assert!(of("user@1000.service", Some("app.slice")).passes_on());
        assert!(of("ssh.service", None).passes_on() && Belongs::default().passes_on());
    }
}
