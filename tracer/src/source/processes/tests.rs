use super::{
    super::stat::{Stat, TICK},
    *,
};
use crate::{bpf::lives::Exec, model::belongs::Belongs, research::belongs::Place};

const PARENT: ProcessId = ProcessId { pid: 4_000_001, started: 1_000_000_001 };
const CHILD: ProcessId = ProcessId { pid: 4_000_002, started: 2_000_000_002 };

fn life(id: ProcessId, parent: ProcessId, at: u64, change: LifeChange) -> Life {
    let exec_id = u32::from(matches!(change, LifeChange::Exec(_)));
    Life { at, id, parent, uid: 0, exec_id, netns: None, comm: *b"a name\0\0\0\0\0\0\0\0\0\0", change }
}

fn exec(name: &str) -> LifeChange {
    LifeChange::Exec(Exec {
        name: Some(name.into()),
        args: Some(format!("{name}\0--one\0").into_bytes()),
        args_cut: false,
        is_script: false,
        file: (1, 2),
        links: 1,
        magic: 0,
    })
}

fn task(id: ProcessId, exec_id: u32) -> Task {
    Task { id, tid: id.pid, ppid: PARENT.pid, uid: 0, exec_id, comm: *b"a name\0\0\0\0\0\0\0\0\0\0" }
}

fn told(processes: &mut Processes, task: &Task) -> Option<Process> {
    let mut facts = Vec::new();
    processes.tell(task, 0, &mut facts);
    match facts.into_iter().next() {
        Some(Fact::Process(process)) => Some(*process),
        _ => None,
    }
}

fn of_lives(lives: &[Life]) -> Processes {
    let mut processes = Processes::new();
    lives.iter().for_each(|life| processes.take(life, &mut Vec::new()));
    processes
}

#[test]
fn a_process_that_is_gone_is_told_with_what_it_ran_and_who_began_it() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[
        life(PARENT, nobody, 1, LifeChange::Fork),
        life(PARENT, nobody, 2, exec("/usr/bin/parent")),
        life(CHILD, PARENT, 3, LifeChange::Fork),
        life(CHILD, PARENT, 4, exec("/usr/bin/child")),
        life(PARENT, nobody, 5, LifeChange::Exit),
        life(CHILD, PARENT, 6, LifeChange::Exit),
    ]);
    let child = told(&mut processes, &task(CHILD, 1)).unwrap();
    assert_eq!(child.exe.as_deref(), Some("/usr/bin/child"));
    assert_eq!(child.args, Some(vec!["/usr/bin/child".to_owned(), "--one".to_owned()]));
    assert_eq!(child.unknown, None);
    let [ancestor] = child.lineage.as_slice() else { panic!("one ancestor: {:?}", child.lineage) };
    assert_eq!((ancestor.pid, ancestor.exe.as_deref()), (PARENT.pid, Some("/usr/bin/parent")));
    assert_eq!(told(&mut processes, &task(CHILD, 1)), None);
}

#[test]
fn a_child_runs_what_its_parent_runs_until_it_runs_something_else() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[
        life(PARENT, nobody, 2, exec("/usr/bin/parent")),
        life(CHILD, PARENT, 3, LifeChange::Fork),
    ]);
    assert_eq!(told(&mut processes, &task(CHILD, 0)).unwrap().exe.as_deref(), Some("/usr/bin/parent"));
    processes.take(&life(CHILD, PARENT, 4, exec("/usr/bin/child")), &mut Vec::new());
    assert_eq!(told(&mut processes, &task(CHILD, 1)).unwrap().exe.as_deref(), Some("/usr/bin/child"));
}

#[test]
fn an_exec_that_was_not_told_leaves_nothing_of_the_program_before() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(CHILD, nobody, 2, exec("/usr/bin/before"))]);
    let child = told(&mut processes, &task(CHILD, 2)).unwrap();
    assert_eq!((child.exe, child.args), (None, None));
    assert!(child.unknown.is_some());
}

#[test]
fn those_that_ended_are_forgotten_unless_a_child_names_them() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let other = ProcessId { pid: 4_000_003, started: 3 };
    let mut processes = of_lives(&[
        life(PARENT, nobody, 1, exec("/usr/bin/parent")),
        life(other, PARENT, 2, LifeChange::Fork),
    ]);
    assert!(told(&mut processes, &task(other, 0)).is_some());
    let mut facts = Vec::new();
    for (id, at) in [(PARENT, 3), (other, 4)] {
        processes.take(&life(id, nobody, at, LifeChange::Exit), &mut facts);
    }
    processes.take(&life(CHILD, PARENT, 5, LifeChange::Fork), &mut facts);
    let late = ProcessId { pid: 4_000_004, started: 4 };
    processes.take(&life(late, nobody, 6, LifeChange::Fork), &mut facts);
    processes.take(&life(late, nobody, 10_000_000_000, LifeChange::Exit), &mut facts);
    assert_eq!(facts, [Fact::Forget(other)]);
    assert_eq!(told(&mut processes, &task(CHILD, 0)).unwrap().lineage.len(), 1);
    // With its last child the parent goes too.
    processes.take(&life(CHILD, PARENT, 20_000_000_000, LifeChange::Exit), &mut facts);
    processes.take(&life(late, nobody, 30_000_000_000, LifeChange::Fork), &mut facts);
    processes.take(&life(late, nobody, 40_000_000_000, LifeChange::Exit), &mut facts);
    assert!(processes.table.find(PARENT).is_none());
}

#[test]
fn this_very_process_is_read_whole() {
    let stat = Stat::read(std::process::id()).unwrap();
    let id = ProcessId { pid: std::process::id(), started: stat.started * TICK };
    let task =
        Task { id, tid: id.pid, ppid: stat.ppid, uid: 0, exec_id: 1, comm: *b"test\0\0\0\0\0\0\0\0\0\0\0\0" };
    let mut processes = Processes::new();
    let process = told(&mut processes, &task).unwrap();
    assert_eq!(process.unknown, None);
    assert!(process.exe.is_some() && !process.lineage.is_empty());
    assert_eq!(told(&mut processes, &task), None);
}

#[test]
fn what_proc_told_at_the_start_is_found_by_the_exact_start() {
    let mut processes = Processes::new();
    processes.read_all(0, &mut Vec::new());
    let stat = Stat::read(std::process::id()).unwrap();
    let id = ProcessId { pid: std::process::id(), started: stat.started * TICK + 7 };
    assert!(processes.table.find(id).is_some());
}

#[test]
fn a_reused_pid_is_not_taken_for_the_process() {
    let id = ProcessId { pid: std::process::id(), started: 1 };
    let task = Task { id, tid: id.pid, ppid: 1, uid: 0, exec_id: 1, comm: [b'x'; 16] };
    let process = told(&mut Processes::new(), &task).unwrap();
    assert_eq!((process.exe, process.comm.as_deref()), (None, Some("xxxxxxxxxxxxxxxx")));
    assert!(process.unknown.is_some());
}

#[test]
fn an_exec_and_an_exit_are_told_with_the_program() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let ran = life(CHILD, PARENT, 4, exec("/usr/bin/child"));
    let processes = of_lives(&[
        life(PARENT, nobody, 1, LifeChange::Fork),
        life(CHILD, PARENT, 3, LifeChange::Fork),
        ran.clone(),
    ]);
    assert_eq!(processes.life(&life(CHILD, PARENT, 3, LifeChange::Fork)), None);
    for (told, change) in
        [(ran, event::LifeChange::Exec), (life(CHILD, PARENT, 5, LifeChange::Exit), event::LifeChange::Exit)]
    {
        let Some(Fact::Life(life)) = processes.life(&told) else { panic!("nothing is told of {told:?}") };
        assert_eq!((life.change, life.process.id, life.process.ppid), (change, CHILD, Some(PARENT.pid)));
        assert_eq!(life.process.exe.as_deref(), Some("/usr/bin/child"));
    }
}

/// Has a process belong to a unit, as research would find it.
fn put(processes: &mut Processes, id: ProcessId, unit: &str) {
    let belongs = Arc::new(Belongs { unit: Some(unit.to_owned()), ..Belongs::default() });
    assert!(processes.table.find_mut(id).unwrap().put(Some(Place { belongs, user: None })));
}

fn unit(process: &Process) -> Option<&str> {
    process.belongs.as_ref()?.unit.as_deref()
}

#[test]
fn a_process_that_was_not_looked_at_belongs_where_its_parent_did_at_the_fork() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(PARENT, nobody, 1, exec("/usr/bin/parent"))]);
    put(&mut processes, PARENT, "web.service");
    processes.take(&life(CHILD, PARENT, 2, LifeChange::Fork), &mut Vec::new());
    put(&mut processes, PARENT, "moved.service");
    processes.take(&life(CHILD, PARENT, 3, exec("/usr/bin/child")), &mut Vec::new());
    processes.take(&life(CHILD, PARENT, 4, LifeChange::Exit), &mut Vec::new());
    assert_eq!(unit(&told(&mut processes, &task(CHILD, 1)).unwrap()), Some("web.service"));
}

#[test]
fn what_a_service_manager_begins_does_not_belong_to_it() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(PARENT, nobody, 1, exec("/usr/bin/parent"))]);
    put(&mut processes, PARENT, "init.scope");
    processes.take(&life(CHILD, PARENT, 2, LifeChange::Fork), &mut Vec::new());
    assert_eq!(told(&mut processes, &task(CHILD, 0)).unwrap().belongs, None);
}

#[test]
fn an_answer_that_finds_the_process_elsewhere_tells_it_anew() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(CHILD, nobody, 1, exec("/usr/bin/child"))]);
    let first = told(&mut processes, &task(CHILD, 1)).unwrap();
    let order =
        Order { id: CHILD, exec_id: 1, started: Default::default(), uid: 0, parent: None, hash: false };
    let belongs = Arc::new(Belongs { unit: Some("web.service".to_owned()), ..Belongs::default() });
    let user = Some((0, Some("admin".into())));
    let place = Some(Place { belongs, user });
    let provenance = first.provenance.clone().unwrap_or_default();
    let examined = crate::research::file::Examined { path: None, file: None, provenance };
    let answer = Answer { order, examined, place, users: None };
    let mut facts = Vec::new();
    processes.found(answer.clone(), &mut facts);
    let [Fact::Process(process)] = facts.as_slice() else { panic!("told once: {facts:?}") };
    assert_eq!((unit(process), process.user.as_deref()), (Some("web.service"), Some("admin")));
    processes.found(answer, &mut facts);
    assert_eq!(facts.len(), 1);
    // Another user of that root has another name, which is not known before it was asked for.
    let other = told(&mut processes, &Task { uid: 7, ..task(CHILD, 1) }).unwrap();
    assert_eq!((other.uid, other.user), (Some(7), None));
}

#[test]
fn the_users_of_the_own_root_are_those_of_the_last_answer() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(CHILD, nobody, 1, exec("/usr/bin/child"))]);
    told(&mut processes, &task(CHILD, 1)).unwrap();
    let order =
        Order { id: CHILD, exec_id: 1, started: Default::default(), uid: 0, parent: None, hash: false };
    let users = Some(Arc::new(Users::parse(b"new:x:4000000000:\n")));
    let answer = Answer { order, examined: Default::default(), place: None, users };
    processes.found(answer, &mut Vec::new());
    let user = told(&mut processes, &Task { uid: 4_000_000_000, ..task(CHILD, 1) }).unwrap().user;
    assert_eq!(user.as_deref(), Some("new"));
}

#[test]
fn this_very_process_belongs_where_proc_says() {
    let stat = Stat::read(std::process::id()).unwrap();
    let id = ProcessId { pid: std::process::id(), started: stat.started * TICK };
    let task = Task { id, ppid: stat.ppid, ..task(id, 1) };
    let belongs = told(&mut Processes::new(), &task).unwrap().belongs.unwrap();
    let text = fs::read("/proc/self/cgroup").unwrap_or_default();
    let path = crate::model::cgroup::Placement::parse(&text).path.map(escape);
    assert_eq!(belongs.cgroup, path);
}

/// What /proc tells of a holder: the rounded start, and no count of its exec calls.
fn holder(id: ProcessId) -> Task {
    Task { id: id.rounded(), ..task(id, 0) }
}

#[test]
fn a_holder_is_told_as_it_is_known_and_stays_what_it_is() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(CHILD, nobody, 2, exec("/usr/bin/child"))]);
    assert!(!processes.has_acted(CHILD));
    let mut facts = Vec::new();
    assert_eq!(processes.tell_holder(&holder(CHILD), 3, &mut facts), Some(CHILD));
    let [Fact::Process(told)] = facts.as_slice() else { panic!("one process: {facts:?}") };
    assert_eq!((told.id, told.exe.as_deref()), (CHILD, Some("/usr/bin/child")));
    assert!(processes.has_acted(CHILD));
    facts.clear();
    assert_eq!(processes.tell_holder(&holder(CHILD), 4, &mut facts), Some(CHILD));
    processes.tell(&task(CHILD, 1), 5, &mut facts);
    assert_eq!(facts, []);
}

#[test]
fn a_holder_that_acted_is_the_one_that_acted() {
    let nobody = ProcessId { pid: 0, started: 0 };
    let mut processes = of_lives(&[life(CHILD, nobody, 2, exec("/usr/bin/child"))]);
    assert!(told(&mut processes, &task(CHILD, 1)).is_some());
    let mut facts = Vec::new();
    assert_eq!(processes.tell_holder(&holder(CHILD), 3, &mut facts), Some(CHILD));
    assert_eq!(facts, []);
}

#[test]
fn a_holder_that_is_gone_or_whose_number_another_has_is_nobody() {
    let mut processes = Processes::new();
    let mut facts = Vec::new();
    assert_eq!(processes.tell_holder(&holder(CHILD), 3, &mut facts), None);
    let reused = ProcessId { pid: std::process::id(), started: 10_000_000 };
    assert_eq!(processes.tell_holder(&holder(reused), 3, &mut facts), None);
    let stat = Stat::read(std::process::id()).unwrap();
    let own = ProcessId { pid: std::process::id(), started: stat.started * TICK };
    assert_eq!(processes.tell_holder(&holder(own), 3, &mut facts), Some(own));
    assert_eq!(facts.len(), 1);
}
