//! Free ports on loopback, and remembering them.
//!
//! They come from below the range the system gives to outgoing connections. A client that keeps trying to reach a broker
//! that is down could otherwise be given the broker's own port, connect to itself, and keep the broker from coming back.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

use super::options::Options;

const FIRST: u32 = 15_000;
const COUNT: u32 = 15_000;

/// As many different free ports as asked for. No two calls in one process give the same one until thousands were given;
/// processes start at different places.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(RandomState::new().hash_one(std::process::id()) as u32 % COUNT));
    let candidates =
        (0..COUNT).filter_map(|_| u16::try_from(FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT).ok());
    let ports: Vec<u16> = candidates.filter(|port| is_free(*port)).take(count).collect();
    if ports.len() < count {
        bail!("no {count} free ports on loopback between {FIRST} and {}", FIRST + COUNT);
    }
    Ok(ports)
}

/// Whether something could listen there now.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The ports of last time if they are free, others if not; they are written down for next time.
pub(super) fn choose(folder: &Path, options: &Options) -> Result<Vec<Vec<u16>>> {
    let columns = options.ports_per_broker();
    let earlier = read(folder);
    if !earlier.is_empty() && earlier.len() != options.brokers {
        let (there, wanted) = (earlier.len(), options.brokers);
        bail!("{} has the data of {there} brokers, not of {wanted}: start as many, or remove it", folder.display());
    }
    let fits = !earlier.is_empty() && earlier.iter().all(|row| row.len() == columns);
    if fits && earlier.iter().flatten().all(|port| is_free(*port)) {
        return Ok(earlier);
    }
    let ports: Vec<_> = free_ports(columns * options.brokers)?.chunks(columns).map(<[u16]>::to_vec).collect();
    write(folder, &ports)?;
    Ok(ports)
}

/// The ports of the last start in this folder, a row for each broker; empty if there was none.
pub(super) fn read(folder: &Path) -> Vec<Vec<u16>> {
    let text = std::fs::read_to_string(folder.join("ports")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').filter_map(|port| port.parse().ok()).collect()).collect()
}

fn write(folder: &Path, ports: &[Vec<u16>]) -> Result<()> {
    let line = |row: &Vec<u16>| row.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    let text = ports.iter().map(line).collect::<Vec<_>>().join("\n");
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(std::fs::write(folder.join("ports"), text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_listened_on() {
        let mut ports = free_ports(4).unwrap();
        ports.extend(free_ports(4).unwrap());
        let listeners: Vec<_> = ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port))).collect();
        assert!(listeners.iter().all(Result::is_ok), "{ports:?}");
    }

    #[test]
    fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }

    #[test]
    fn ports_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        let ports = vec![vec![1, 2, 3], vec![4, 5, 6]];
        write(folder.path(), &ports).unwrap();
        assert_eq!(read(folder.path()), ports);
    }

    #[test]
    fn data_of_three_brokers_is_not_given_to_one() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[vec![1, 2], vec![3, 4], vec![5, 6]]).unwrap();
        let error = choose(folder.path(), &Options::default()).unwrap_err();
        assert!(error.to_string().contains("the data of 3 brokers, not of 1"), "{error}");
    }

    #[test]
    fn the_same_ports_are_taken_again_unless_somebody_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::default();
        let first = choose(folder.path(), &options).unwrap();
        assert_eq!(choose(folder.path(), &options).unwrap(), first);
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first[0][1])).unwrap();
        assert_ne!(choose(folder.path(), &options).unwrap(), first);
    }
}
