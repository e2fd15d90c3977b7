//! A registration, input by input.

use super::*;

const NO_JITTER: u64 = 1000;

fn temporary() -> Input {
    Input::Failed(Arc::new(Error::Timeout {
        after: Duration::from_secs(32),
    }))
}

fn permanent() -> Input {
    Input::Failed(Arc::new(Error::Closed))
}

struct Run {
    now: Instant,
    machine: Machine,
}

impl Run {
    fn start(seconds: u32) -> Self {
        let now = Instant::now();
        let (machine, state) = Machine::new(
            now,
            seconds,
            now,
            Backoff::default(),
            Jitter::new(NO_JITTER),
        );
        assert!(
            matches!(state, RegistrationState::Registered { expires, .. } if expires == seconds)
        );
        Run { now, machine }
    }

    fn on(&mut self, input: Input) -> Option<RegistrationState> {
        self.machine.on(self.now, input, Jitter::new(NO_JITTER))
    }

    fn due_in(&self) -> Option<Duration> {
        Some(
            self.machine
                .poll_timeout()?
                .saturating_duration_since(self.now),
        )
    }

    fn until_due(&mut self) {
        self.now = self.machine.poll_timeout().unwrap();
    }
}

#[test]
fn a_binding_is_refreshed_again_and_again() {
    let mut run = Run::start(60);
    for _ in 0..100 {
        assert_eq!(run.due_in(), Some(Duration::from_secs(30)));
        run.until_due();
        assert!(matches!(
            run.on(Input::Send),
            Some(RegistrationState::Refreshing { .. })
        ));
        assert_eq!(
            run.due_in(),
            None,
            "nothing is due while a REGISTER is pending"
        );
        let asked_at = run.now;
        assert!(
            run.on(Input::Granted {
                seconds: 60,
                asked_at
            })
            .is_some()
        );
    }
}

#[test]
fn failures_back_off_and_go_on_past_the_end_of_the_binding() {
    let mut run = Run::start(120);
    run.until_due();
    let mut bound = Vec::new();
    let mut waits = Vec::new();
    for _ in 0..7 {
        run.on(Input::Send);
        let Some(RegistrationState::Retrying {
            retry_in,
            expires_in,
            ..
        }) = run.on(temporary())
        else {
            panic!("not retrying");
        };
        waits.push(retry_in.as_secs());
        bound.push(expires_in.as_secs());
        run.until_due();
    }
    assert_eq!(waits, [60, 120, 240, 480, 960, 1800, 1800]);
    assert_eq!(bound, [60, 0, 0, 0, 0, 0, 0]);
    run.on(Input::Send);
    let asked_at = run.now;
    run.on(Input::Granted {
        seconds: 120,
        asked_at,
    });
    run.until_due();
    run.on(Input::Send);
    let state = run.on(temporary());
    assert!(
        matches!(state, Some(RegistrationState::Retrying { retry_in, .. }) if retry_in.as_secs() == 60),
        "a success resets the back-off: {state:?}"
    );
}

#[test]
fn a_permanent_failure_ends_it() {
    let mut run = Run::start(60);
    run.on(Input::Send);
    assert!(matches!(
        run.on(permanent()),
        Some(RegistrationState::Failed(_))
    ));
    assert_eq!(run.due_in(), None);
    for input in [Input::Send, temporary(), Input::Removed, Input::Stop] {
        assert!(run.on(input).is_none(), "an end is an end");
    }
}

#[test]
fn removal_ends_it_and_nothing_is_bound_any_more() {
    let mut run = Run::start(60);
    assert!(matches!(
        run.on(Input::Removed),
        Some(RegistrationState::Unregistered)
    ));
    assert_eq!(run.machine.expires_in(run.now), Duration::ZERO);
}

#[test]
fn a_stop_ends_it_in_any_state() {
    for steps in 0..3 {
        let mut run = Run::start(60);
        if steps > 0 {
            run.on(Input::Send);
        }
        if steps > 1 {
            run.on(temporary());
        }
        assert!(matches!(
            run.on(Input::Stop),
            Some(RegistrationState::Stopped)
        ));
        assert_eq!(run.due_in(), None);
    }
}

#[test]
fn the_lifetime_counts_from_the_asking() {
    let mut run = Run::start(60);
    run.on(Input::Send);
    let asked_at = run.now;
    run.now += Duration::from_secs(10);
    run.on(Input::Granted {
        seconds: 60,
        asked_at,
    });
    assert_eq!(run.machine.expires_in(run.now), Duration::from_secs(50));
    assert_eq!(run.due_in(), Some(Duration::from_secs(20)));
}

#[test]
fn a_slow_answer_to_a_short_grant_does_not_spin() {
    let mut run = Run::start(10);
    run.on(Input::Send);
    let asked_at = run.now;
    run.now += Duration::from_secs(20);
    run.on(Input::Granted {
        seconds: 10,
        asked_at,
    });
    assert_eq!(run.due_in(), Some(Duration::from_secs(1)));
}

#[test]
fn what_does_not_fit_the_state_changes_nothing() {
    let mut run = Run::start(60);
    let asked_at = run.now;
    assert!(
        run.on(Input::Granted {
            seconds: 1,
            asked_at
        })
        .is_none()
    );
    assert!(run.on(temporary()).is_none());
    run.on(Input::Send);
    assert!(run.on(Input::Send).is_none());
}

fn lost(run: &mut Run, age: u64) -> Option<Duration> {
    let age = Duration::from_secs(age);
    match run.on(Input::FlowLost { age }) {
        Some(RegistrationState::FlowLost { retry_in, .. }) => Some(retry_in),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn again(run: &mut Run) {
    run.until_due();
    run.on(Input::Send);
    let asked_at = run.now;
    let seconds = 3600;
    run.on(Input::Granted { seconds, asked_at });
}

#[test]
fn a_flow_that_served_is_replaced_within_a_second_as_often_as_it_ends() {
    let mut run = Run::start(3600);
    for _ in 0..5 {
        assert_eq!(lost(&mut run, 600), Some(SPREAD));
        assert_eq!(run.due_in(), Some(SPREAD));
        again(&mut run);
    }
}

#[test]
fn flows_that_end_at_once_are_replaced_with_back_off_and_a_refresh_comes_in_time() {
    let mut run = Run::start(3600);
    let waits: Vec<_> = (0..9)
        .map(|_| {
            let wait = lost(&mut run, 1).unwrap().as_secs();
            again(&mut run);
            wait
        })
        .collect();
    assert_eq!(waits, [1, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    assert_eq!(lost(&mut run, 30), Some(SPREAD), "one that served");
    let mut run = Run::start(60);
    lost(&mut run, 1);
    run.until_due();
    run.on(Input::Send);
    let (seconds, asked_at) = (60, run.now);
    run.on(Input::Granted { seconds, asked_at });
    assert_eq!(lost(&mut run, 1), Some(Duration::from_secs(30)));
}

#[test]
fn a_lost_flow_hastens_who_reached_nobody_and_nobody_else() {
    let mut run = Run::start(3600);
    run.on(Input::Send);
    assert_eq!(lost(&mut run, 600), None, "what is under way finds out");
    run.on(temporary());
    assert_eq!(lost(&mut run, 600), Some(SPREAD));
    assert_eq!(lost(&mut run, 600), None, "once");
    run.until_due();
    run.on(Input::Send);
    let text = "SIP/2.0 503 Busy\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
                To: <sip:a@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\nRetry-After: 99\r\nContent-Length: 0\r\n\r\n";
    let busy = sipora_message::Response::parse(text, &sipora_message::Limits::default());
    run.on(Input::Failed(Arc::new(Error::Rejected(
        busy.unwrap().into(),
    ))));
    assert_eq!(lost(&mut run, 600), None);
    assert!(run.due_in() >= Some(Duration::from_secs(99)));
}
