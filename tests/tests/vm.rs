//! The `vm_*` operations, through the client that every face uses.

use std::thread;

use pyro_api::{
    CallError, Client, ClientInfo, ErrorCode, Home, Operation, Start, VmCreateRequest, VmDeleteRequest,
    VmExecRequest, VmObject, VmStartRequest, VmStatusRequest, VmStopRequest, new_request_id,
};
use pyro_core::Face;
use pyro_tests::{Pyro, dist};

/// A home whose VMs are host sandboxes, with a client connected to its daemon.
struct Vms {
    pyro: Pyro,
}

impl Vms {
    fn new(limits: &str) -> Self {
        let pyro = Pyro::new().config(&format!("backend = \"host_sandbox\"\n[limits]\n{limits}\n"));
        let _started = pyro.run(&["env", "list"]);
        Self { pyro }
    }

    fn call<O: Operation>(&self, operation: O) -> Result<O::Response, ErrorCode> {
        let home = Home::at(self.pyro.home()).expect("the home is short");
        let info = ClientInfo { client: "test/1".to_owned(), face: Face::Mcp };
        let start = Start::IfNeeded { program: dist().join("bin/pyro") };
        let mut client = Client::connect(&home, &info, &start).expect("the daemon answers");
        client.call(operation, |_| {}).map_err(|error| match error {
            CallError::Failed(error) => error.code,
            error => panic!("{error}"),
        })
    }

    fn create(&self, ttl_seconds: u64) -> VmObject {
        self.call(create(ttl_seconds)).expect("a VM can be created")
    }

    fn status(&self, vm_id: &str) -> Result<VmObject, ErrorCode> {
        self.call(VmStatusRequest { vm_id: vm_id.to_owned() })
    }

    fn start(&self, vm_id: &str) -> Result<VmObject, ErrorCode> {
        self.call(VmStartRequest { vm_id: vm_id.to_owned(), request_id: None })
    }

    fn stop(&self, vm_id: &str) -> Result<VmObject, ErrorCode> {
        self.call(VmStopRequest { vm_id: vm_id.to_owned(), request_id: None })
    }

    fn exec(&self, vm_id: &str, command: &str) -> Result<u8, ErrorCode> {
        let request = VmExecRequest {
            vm_id: vm_id.to_owned(),
            command: command.to_owned(),
            timeout_seconds: 30,
            request_id: None,
            resume: None,
        };
        self.call(request).map(|outcome| outcome.exit_code)
    }
}

fn create(ttl_seconds: u64) -> VmCreateRequest {
    VmCreateRequest {
        environment: "debian:12".to_owned(),
        vcpu_count: 1,
        mem_mib: 256,
        ttl_seconds,
        network: false,
        allow_host_compat: true,
        request_id: Some(new_request_id()),
    }
}

#[test]
fn vm_lives_as_the_contract_says() {
    let vms = Vms::new("");
    let created = vms.create(600);
    assert_eq!((created.state.as_str(), created.execution_mode.as_str()), ("created", "pending"));
    let id = created.vm_id;
    assert_eq!(vms.exec(&id, "true"), Err(ErrorCode::InvalidState), "it is not started");

    let started = vms.start(&id[..6]).unwrap();
    assert_eq!((started.state.as_str(), started.execution_mode.as_str()), ("started", "host_compat"));
    assert_eq!(started.metadata["backend"], "host_sandbox");
    assert_eq!(vms.start(&id).unwrap_err(), ErrorCode::InvalidState);
    assert_eq!(vms.stop(&id).unwrap().state, "stopped");
    assert_eq!(vms.stop(&id).unwrap().state, "stopped", "a second stop changes nothing");
    assert_eq!(vms.start(&id).unwrap().state, "started", "a stopped VM starts again");

    assert_eq!(vms.exec(&id, "exit 9"), Ok(9));
    assert_eq!(vms.status(&id).unwrap_err(), ErrorCode::UnknownVm, "one command ends it");
}

#[test]
fn deletion_is_final_and_three_at_once_have_one_effect() {
    let vms = Vms::new("");
    let id = vms.create(600).vm_id;
    vms.start(&id).unwrap();
    let delete = || vms.call(VmDeleteRequest { vm_id: id.clone(), request_id: None });
    let deleted: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(delete)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(deleted.iter().any(Result::is_ok), "{deleted:?}");
    assert!(
        deleted.iter().all(|result| !matches!(result, Err(code) if *code != ErrorCode::UnknownVm)),
        "{deleted:?}"
    );
    assert_eq!(vms.pyro.kinds().iter().filter(|kind| *kind == "workspace_deleted").count(), 1);
}

#[test]
fn repeated_request_has_the_first_outcome() {
    let vms = Vms::new("");
    let request = create(600);
    let first = vms.call(request.clone()).unwrap();
    let second = vms.call(request).unwrap();
    assert_eq!(first.vm_id, second.vm_id);
    assert_eq!(vms.pyro.kinds().iter().filter(|kind| *kind == "workspace_created").count(), 1);
}

#[test]
fn limit_on_running_guests_is_exact() {
    let vms = Vms::new("guests_max = 4");
    let ids: Vec<_> = (0..12).map(|_| vms.create(600).vm_id).collect();
    let started: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = ids.iter().map(|id| scope.spawn(|| vms.start(id))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused = started.iter().filter(|result| matches!(result, Err(ErrorCode::LimitReached))).count();
    assert_eq!((started.iter().filter(|result| result.is_ok()).count(), refused), (4, 8), "{started:?}");
}

#[test]
fn time_to_live_ends_a_vm_also_while_it_runs() {
    let vms = Vms::new("ttl_seconds_min = 1");
    let id = vms.create(2).vm_id;
    vms.start(&id).unwrap();
    assert_eq!(vms.exec(&id, "sleep 100"), Err(ErrorCode::Expired));
    let deleted = vms.pyro.wait_for("workspace_deleted");
    assert_eq!(
        (deleted["data"]["reason"].as_str(), deleted["workspace_id"].as_str()),
        (Some("expired"), Some(id.as_str()))
    );
}

#[test]
fn ids_are_checked_before_anything_happens() {
    let vms = Vms::new("");
    for id in ["", "abc", "../../../etc", "ABCDEF012345", "0123456789abc"] {
        assert_eq!(vms.status(id).unwrap_err(), ErrorCode::InvalidArgument, "{id:?}");
    }
    assert_eq!(vms.status("0123456789ab").unwrap_err(), ErrorCode::UnknownVm);
}
