//! The backend suite in a cluster: a daemon of its own for each build, under both profiles.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;
mod cluster;

use kiln_backends::kubernetes::{Profile, Reach};

mod userns {
    crate::backends_bench::backend_suite!(crate::cluster::bench(crate::Profile::Userns, crate::Reach::PodIp).await);
}

mod rootless {
    crate::backends_bench::backend_suite!(
        crate::cluster::bench(crate::Profile::Rootless, crate::Reach::PortForward).await
    );
}
