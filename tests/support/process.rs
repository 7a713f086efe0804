//! What a process takes of the machine, read from `/proc`, and signals to it.

use super::Proxy;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

impl Proxy {
    /// Stops the daemon where it is, until [`Proxy::go_on`].
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("a child of ours");
    }

    /// Bytes of memory that the daemon has in use now.
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Bytes of memory that the daemon had in use at most since it started, or since [`Proxy::forget_peak_memory`].
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Starts [`Proxy::peak_memory`] anew.
    pub fn forget_peak_memory(&self) {
        // Needs no privilege for a process of one's own (proc(5), clear_refs).
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("the daemon's clear_refs");
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon's status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kibibytes * 1024
    }
}
