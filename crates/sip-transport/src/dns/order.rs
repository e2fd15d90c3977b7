//! In which order servers are tried: NAPTR (RFC 3263 §4.1) and SRV (RFC 2782).

use crate::Transport;

/// A NAPTR record that leads to SRV records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Naptr {
    pub(super) order: u16,
    pub(super) preference: u16,
    pub(super) flags: String,
    pub(super) services: String,
    /// Empty for the root, which means that there is none.
    pub(super) replacement: String,
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Empty for the root, which means that the service is not there (RFC 2782).
    pub(super) target: String,
}

/// A transport, and the name whose SRV records tell who offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) transport: Transport,
    pub(super) name: String,
}

impl Service {
    /// RFC 3263 §4.1: the name where no NAPTR record tells one. None for WebSocket, which has no such names (RFC 7118 §5.5).
    pub(super) fn of(transport: Transport, domain: &str) -> Option<Service> {
        let prefix = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
            Transport::Ws | Transport::Wss => return None,
        };
        Some(Service {
            transport,
            name: format!("{prefix}.{domain}"),
        })
    }
}

/// Picks what we speak, best first. RFC 3263 §4.1: services that we do not support, and for `sips` all that are not secure,
/// MUST be discarded; RFC 3403 §4.1: nothing of a higher order counts once one of a lower has matched.
pub(super) fn services(
    mut records: Vec<Naptr>,
    speaks: impl Fn(Transport) -> bool,
) -> Vec<Service> {
    records.sort_by_key(|record| (record.order, record.preference));
    let mut matching = records.into_iter().filter_map(|record| {
        let transport = service(&record.services)?;
        // RFC 3263 §4.1: the flag is "s", and the regular expression is not used.
        let leads = record.flags.eq_ignore_ascii_case("s") && !record.replacement.is_empty();
        (leads && speaks(transport)).then_some((record.order, transport, record.replacement))
    });
    let Some(first) = matching.next() else {
        return Vec::new();
    };
    let order = first.0;
    let same_order = std::iter::once(first).chain(matching.take_while(|(of, _, _)| *of == order));
    let mut services: Vec<Service> = Vec::new();
    for (_, transport, name) in same_order {
        let service = Service { transport, name };
        if services.len() < MOST_SERVICES && !services.contains(&service) {
            services.push(service);
        }
    }
    services
}

fn service(field: &str) -> Option<Transport> {
    let known = [
        ("SIP+D2U", Transport::Udp),
        ("SIP+D2T", Transport::Tcp),
        ("SIPS+D2T", Transport::Tls),
        ("SIP+D2W", Transport::Ws),
        ("SIPS+D2W", Transport::Wss),
    ];
    known
        .into_iter()
        .find(|(name, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, transport)| transport)
}

/// Orders servers: the lowest priority first, and among those of one priority by chance, as their weights have it (RFC
/// 2782). `random` gives a number below its argument.
pub(super) fn servers(records: Vec<Srv>, mut random: impl FnMut(u64) -> u64) -> Vec<Srv> {
    let mut records: Vec<Srv> = records
        .into_iter()
        .filter(|record| !record.target.is_empty())
        .collect();
    // Those of weight 0 stand first, so that they have a small chance beside others.
    records.sort_by_key(|record| (record.priority, record.weight > 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let candidates = || {
            records
                .iter()
                .take_while(|other| other.priority == priority)
        };
        let sum: u64 = candidates().map(|other| u64::from(other.weight)).sum();
        // "choose a uniform random number between 0 and the sum computed (inclusive), and select the RR whose running sum
        // value is the first in the selected order which is greater than or equal to the random number"
        let mut left = random(sum.saturating_add(1));
        let chosen = candidates().position(|other| {
            let weight = u64::from(other.weight);
            let found = left <= weight;
            left = left.saturating_sub(weight);
            found
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// Services that are looked up for one domain. There are five that anybody has; whoever writes a zone must not make us ask as
/// many questions as it has records.
const MOST_SERVICES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn naptr(order: u16, preference: u16, services: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: "s".into(),
            services: services.into(),
            replacement: format!("{services}.example.com"),
        }
    }

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv {
            priority,
            weight,
            port: 5060,
            target: target.into(),
        }
    }

    fn found(records: Vec<Naptr>, speaks: &[Transport]) -> Vec<Transport> {
        services(records, |transport| speaks.contains(&transport))
            .into_iter()
            .map(|service| service.transport)
            .collect()
    }

    #[test]
    fn a_zone_of_a_thousand_services_makes_no_thousand_lookups() {
        let record = |number: u16| Naptr {
            replacement: format!("_sip._udp.{}.example.com", number / 2),
            ..naptr(10, number, "SIP+D2U")
        };
        let found = services((0..1_000).rev().map(record).collect(), |_| true);
        let names: Vec<_> = found.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names.len(), MOST_SERVICES);
        assert_eq!(names[0], "_sip._udp.0.example.com");
        assert_eq!(names[1], "_sip._udp.1.example.com", "each once");
    }

    #[test]
    fn rfc_3263_section_4_1_the_first_order_that_we_speak_counts() {
        let records = vec![
            naptr(100, 50, "SIP+D2U"),
            naptr(50, 50, "SIPS+D2T"),
            naptr(90, 50, "SIP+D2T"),
        ];
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
        assert_eq!(found(records.clone(), &all), [Transport::Tls]);
        let plain = [Transport::Udp, Transport::Tcp];
        assert_eq!(found(records.clone(), &plain), [Transport::Tcp]);
        assert_eq!(found(records, &[Transport::Wss]), []);
    }

    #[test]
    fn of_one_order_all_are_tried_by_preference() {
        let records = vec![naptr(1, 20, "sip+d2t"), naptr(1, 10, "SIP+D2U")];
        let both = [Transport::Tcp, Transport::Udp];
        assert_eq!(found(records, &both), [Transport::Udp, Transport::Tcp]);
    }

    #[test]
    fn records_for_other_things_are_passed_over() {
        let mut others = vec![
            naptr(1, 1, "E2U+sip"),
            naptr(1, 2, "SIP+D2U"),
            naptr(1, 3, "SIP+D2U"),
        ];
        others[1].flags = "u".into();
        others[2].replacement = String::new();
        assert_eq!(found(others, &[Transport::Udp]), []);
    }

    #[test]
    fn servers_come_by_priority_and_then_by_chance() {
        let records = vec![
            srv(20, 0, "late"),
            srv(10, 60, "big"),
            srv(10, 20, "small"),
            srv(10, 0, "none"),
        ];
        let order = |number: u64| -> Vec<String> {
            let servers = servers(records.clone(), |below| number.min(below - 1));
            servers.into_iter().map(|server| server.target).collect()
        };
        assert_eq!(order(0), ["none", "big", "small", "late"]);
        assert_eq!(order(60), ["big", "small", "none", "late"]);
        assert_eq!(order(80), ["small", "big", "none", "late"]);
    }

    #[test]
    fn weights_are_chances() {
        let records = vec![srv(1, 75, "often"), srv(1, 25, "seldom")];
        let first = |number: u64| servers(records.clone(), |_| number)[0].target.clone();
        let often = (0..=100).filter(|number| first(*number) == "often").count();
        assert_eq!(often, 76);
    }

    #[test]
    fn a_root_as_target_says_that_there_is_no_such_service() {
        assert_eq!(servers(vec![srv(0, 0, "")], |_| 0), []);
    }
}
