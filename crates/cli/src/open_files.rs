//! How many files the process may have open: every connection is one.

/// Raises the limit as far as the process may by itself, and gives what holds then; `None` where there is none.
#[cfg(unix)]
pub(crate) fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// There is no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_limit() -> Option<u64> {
    None
}

/// Says whether so many connections fit, beside the files that a server has open anyway.
pub(crate) fn suffice(limit: Option<u64>, connections: usize) -> bool {
    let needed = u64::try_from(connections).map_or(u64::MAX, |count| count.saturating_add(OTHERS));
    limit.is_none_or(|limit| limit >= needed)
}

/// Listeners, the log, what the runtime waits with.
const OTHERS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_need_a_file_each_and_the_server_some_more() {
        assert!(suffice(None, 10_000));
        assert!(suffice(Some(10_064), 10_000));
        assert!(!suffice(Some(10_063), 10_000));
    }
}
