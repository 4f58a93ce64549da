//! What the exit code says.

use std::process::ExitCode;

use dynkv::config::ConfigError;
use dynkv::net::NetError;
use dynkv::server::ServerError;

const ERROR: u8 = 1;
const USAGE: u8 = 2;
const TLS: u8 = 6;

/// 2 for a configuration that makes no sense, 6 for certificates and secrets, 1 for the rest.
pub fn code_of(err: &anyhow::Error) -> ExitCode {
    let net = err.downcast_ref::<NetError>().or_else(|| match err.downcast_ref::<ServerError>() {
        Some(ServerError::Net(net)) => Some(net),
        _ => None,
    });
    let of_tls = |net: &NetError| {
        matches!(
            net,
            NetError::Tls { .. } | NetError::Exposed { .. } | NetError::BadFile { .. } | NetError::Certificate(_)
        )
    };
    let is_config = err.downcast_ref::<ConfigError>().is_some()
        || matches!(err.downcast_ref(), Some(ServerError::Config { .. } | ServerError::FixedAtBirth { .. }));
    ExitCode::from(if net.is_some_and(of_tls) {
        TLS
    } else if is_config {
        USAGE
    } else {
        ERROR
    })
}
