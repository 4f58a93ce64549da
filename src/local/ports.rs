//! Ports for nodes on this machine.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::LocalError;

/// Below the ports that systems hand out, so that nobody is given the port of a node that is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So many ports of loopback that nobody uses, for TCP or for UDP. Which are tried first is left to chance: clusters that are laid out at the same time
/// hardly ever meet.
///
/// # Errors
/// [`LocalError::Ports`].
pub fn free_ports(count: usize) -> Result<Vec<u16>, LocalError> {
    let span = PORTS.end - PORTS.start;
    let first = rand::random_range(0..span);
    let all = (0..span).map(|step| PORTS.start + (first + step) % span);
    let ports: Vec<u16> = all.filter(|port| is_free(*port)).take(count).collect();
    if ports.len() < count {
        Err(LocalError::Ports { count, first: PORTS.start, last: PORTS.end - 1 })
    } else {
        Ok(ports)
    }
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_of_the_range_and_not_in_use() {
        let [tcp, udp] = free_ports(2).unwrap()[..] else { panic!("two were asked for") };
        let taken = (
            TcpListener::bind((Ipv4Addr::LOCALHOST, tcp)).unwrap(),
            UdpSocket::bind((Ipv4Addr::LOCALHOST, udp)).unwrap(),
        );
        assert!(tcp != udp && PORTS.contains(&tcp) && PORTS.contains(&udp));
        assert!(!is_free(tcp) && !is_free(udp));
        drop(taken);
        assert!(is_free(tcp) && is_free(udp));
        let refused = free_ports(PORTS.len() + 1).unwrap_err();
        assert_eq!(refused.to_string(), "fewer than 12001 of the ports 20000 to 31999 are free on loopback");
    }
}
