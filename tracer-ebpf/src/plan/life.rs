//! Hooks on the lives of processes, the same in every plan.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use tracer_common::slot;

use crate::{handlers::life, proof::mark, task::GivenTask};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn fork(ctx: BtfTracePointContext) -> i32 {
    let child = GivenTask::at(ctx.arg(1));
    if !mark(const { slot("fork") }, child.netns_number()) {
        life::fork(child);
    }
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn exec(ctx: BtfTracePointContext) -> i32 {
    let task = GivenTask::at(ctx.arg(0));
    if !mark(const { slot("exec") }, task.netns_number()) {
        life::exec(task, ctx.arg(2));
    }
    0
}

/// `sched_process_exit(struct task_struct *p)`
#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn exit(ctx: BtfTracePointContext) -> i32 {
    let task = GivenTask::at(ctx.arg(0));
    if !mark(const { slot("exit") }, task.netns_number()) {
        life::exit(task);
    }
    0
}
