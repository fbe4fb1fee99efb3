//! Has programs in a sandbox not wait for the disk.
//!
//! dpkg syncs its records several times for each package, whatever options it is given. What a
//! sandbox works on is thrown away when the computer stops, so that waiting protects nothing. A
//! system-call filter answers such calls at once; children inherit it.

use std::io;

use nix::libc;

/// The machine whose numbers of system calls the filter has: a value of `linux/audit.h`.
const MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// What is answered without being done.
const CALLS: [libc::c_long; 5] =
    [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync, libc::SYS_syncfs, libc::SYS_msync];

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// The filter: the machine must be ours, and the number among the calls.
const fn filter(machine: u32) -> [libc::sock_filter; 5 + CALLS.len()] {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // Offsets in `struct seccomp_data`: the call's number is at 0, the machine at 4.
    let mut all = [step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0); 5 + CALLS.len()];
    let last = 4 + CALLS.len();
    all[0] = step(LOAD, 4, 0, 0);
    all[1] = step(EQUAL, machine, 0, (last - 3) as u8);
    all[2] = step(LOAD, 0, 0, 0);
    let mut index = 0;
    while index < CALLS.len() {
        all[3 + index] = step(EQUAL, CALLS[index] as u32, (last - 4 - index) as u8, 0);
        index += 1;
    }
    // Error 0: the call was a success.
    all[last] = step(RETURN, libc::SECCOMP_RET_ERRNO, 0, 0);
    all
}

/// Filters this thread and what it starts from now on. Does nothing on other machines. Allocates
/// nothing, so it can be called between fork and exec. Needs `CAP_SYS_ADMIN`.
pub(crate) fn apply() -> io::Result<()> {
    let Some(machine) = MACHINE else { return Ok(()) };
    let mut program = filter(machine);
    let program =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    let done =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filtered_threads_do_not_sync_and_others_do() {
        // A bad file descriptor is an error unless the call never gets to look at it.
        // SAFETY: the calls touch no memory.
        let calls = || unsafe { [libc::fsync(-1), libc::fdatasync(-1), libc::syncfs(-1)] };
        let filtered = std::thread::spawn(move || {
            apply().map(|()| (calls(), std::fs::read("/proc/self/stat").is_ok()))
        });
        match filtered.join().unwrap() {
            Ok(result) => assert_eq!(result, ([0; 3], true)),
            // Only root may filter without giving up more.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}"),
        }
        assert_eq!(calls(), [-1; 3]);
    }
}
