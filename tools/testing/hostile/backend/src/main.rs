// SPDX-License-Identifier: GPL-2.0

//! A virtio device behind a vhost-user socket that is honest, but for what a scenario file says.
//!
//! Usage: `hostile-backend SOCKET SCENARIO [packed] [honest]`.  It serves one connection and ends.  Each lie is
//! a line on standard output.  With the word `vduse` it runs in the guest itself, and SOCKET is the name of a
//! VDUSE device, for features that QEMU's vhost-user devices do not pass on.

#![deny(unsafe_code)]

mod backend;
mod device;
mod ring;
mod scenario;
mod vduse;
mod zones;

use backend::Hostile;
use scenario::Scenario;
use std::{
    env,
    error::Error,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        Mutex, //
    },
};
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{
    GuestMemoryAtomic,
    GuestMemoryMmap, //
};

fn serve(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [socket, file, words @ ..] = arguments else {
        return Err("usage: hostile-backend SOCKET SCENARIO [packed] [honest] [vduse]".into());
    };
    let has = |word: &str| words.iter().any(|one| one == word);
    let mut scenario = Scenario::read(Path::new(file))?;
    if has("honest") {
        scenario.lies.clear();
    }
    let device = Hostile::new(scenario, has("packed"))?;
    if has("vduse") {
        return vduse::serve(socket, device);
    }
    let device = Arc::new(Mutex::new(device));
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("hostile".into(), device, memory)
        .map_err(|error| error.to_string())?;
    daemon.serve(socket).map_err(|error| error.to_string())?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile-backend: {error}");
            ExitCode::FAILURE
        }
    }
}
