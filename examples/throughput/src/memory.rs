//! The machine, as far as measurements need it.

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

/// Bytes that other programs leave free.
pub(crate) fn available() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let limited = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    system.available_memory().min(limited)
}

/// Bytes of this process in memory; 0 where the platform does not say.
pub(crate) fn resident() -> u64 {
    let Ok(pid) = sysinfo::get_current_pid() else { return 0 };
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    system.process(pid).map_or(0, sysinfo::Process::memory)
}

/// What the processor calls itself.
pub(crate) fn processor() -> String {
    let mut system = System::new();
    system.refresh_cpu_all();
    system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned())
}
