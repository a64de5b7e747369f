//! The ways in which a kernel of the matrix is run.

use clap::ValueEnum;
use serde::Deserialize;

/// BTF members that the masked variant hides: each is behind something that the tracer can do without.
const MASKED: &str = "TRACER_MASK_BTF=tcp_sock.bytes_sent,tcp_sock.bytes_retrans,tcp_sock.bytes_received,\
                      net.net_cookie,sock.sk_userlocks";

/// How a kernel is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Variant {
    /// As it is.
    #[default]
    Plain,
    /// With `lockdown=integrity`: nothing may change the running kernel.
    Integrity,
    /// With `lockdown=confidentiality`: nothing may read kernel memory either.
    Confidentiality,
    /// With BTF members missing that optional features need.
    Masked,
}

impl Variant {
    /// As the table of cells says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Masked => "masked",
        }
    }

    /// More words of the kernel's command line.
    pub(crate) const fn parameters(self) -> &'static str {
        match self {
            Self::Plain | Self::Masked => "",
            Self::Integrity => "lockdown=integrity",
            Self::Confidentiality => "lockdown=confidentiality",
        }
    }

    /// Variables of the environment of every command, `NAME=VALUE`.
    pub(crate) fn environment(self) -> Vec<String> {
        match self {
            Self::Plain | Self::Integrity | Self::Confidentiality => Vec::new(),
            Self::Masked => vec![MASKED.to_owned()],
        }
    }
}
