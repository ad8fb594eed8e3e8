//! Which rules are for which protocol: a server refuses a rule that it cannot obey.

use super::{Policy, Rate};
use crate::error::{Error, Result};

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl Policy {
    /// This policy without the rules of the other protocol, which have their defaults then: one
    /// policy can be written for a UDP and a TCP server.
    #[must_use]
    pub fn only(self, protocol: Protocol) -> Self {
        let default = Self::default();
        match protocol {
            Protocol::Udp => Self {
                connections_per_source: default.connections_per_source,
                connection_rate_per_source: default.connection_rate_per_source,
                ..self
            },
            Protocol::Tcp => Self {
                answer_service_ports: default.answer_service_ports,
                loop_guard: default.loop_guard,
                rate_per_source: default.rate_per_source,
                rate_total: default.rate_total,
                max_amplification: default.max_amplification,
                ..self
            },
        }
    }

    /// Refuses what can never work, as [`Policy::validate`] does, and what a server of this
    /// protocol cannot obey.
    ///
    /// # Errors
    ///
    /// Those of [`Policy::validate`]; a rule of the other protocol that has not its default.
    pub fn validate_for(&self, protocol: Protocol) -> Result<()> {
        self.validate()?;
        match protocol {
            Protocol::Udp => self.refuse_tcp_rules(),
            Protocol::Tcp => self.refuse_udp_rules(),
        }
    }

    fn refuse_udp_rules(&self) -> Result<()> {
        let refuse = |rule: String, what: &str, instead: &str| {
            let reason = format!("{what}, and this server is TCP");
            let way_out = format!("{instead}guard.only(\"tcp\") leaves it out");
            Err(Error::argument("set", rule, reason).or(way_out))
        };
        let datagrams = "it limits datagrams";
        let rate = "connection_rate_per_source limits connections, and ";
        if let Some(rule) = &self.rate_per_source {
            return refuse(shown("rate_per_source", *rule), datagrams, rate);
        }
        if let Some(rule) = &self.rate_total {
            return refuse(shown("rate_total", *rule), datagrams, rate);
        }
        if let Some(most) = self.max_amplification {
            let rule = format!("max_amplification={most}");
            return refuse(rule, "it limits replies to datagrams", "");
        }
        if self.answer_service_ports {
            let rule = "answer_service_ports".to_owned();
            return refuse(rule, "it is about source ports of datagrams", "");
        }
        if !self.loop_guard {
            let rule = "loop_guard off".to_owned();
            return refuse(rule, "only datagrams go round in echo loops", "");
        }
        Ok(())
    }

    fn refuse_tcp_rules(&self) -> Result<()> {
        let refuse = |rule: String| {
            let reason = "it limits connections, and this server is UDP";
            let way_out = "rate_per_source limits datagrams, and guard.only(\"udp\") leaves \
                           it out";
            Err(Error::argument("set", rule, reason).or(way_out))
        };
        if let Some(most) = self.connections_per_source {
            return refuse(format!("connections_per_source={most}"));
        }
        if let Some(rule) = &self.connection_rate_per_source {
            return refuse(shown("connection_rate_per_source", *rule));
        }
        Ok(())
    }
}

fn shown(name: &str, rate: Rate) -> String {
    format!("{name}={}", rate.per_second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Tcp, Udp};

    fn default() -> Policy {
        Policy::default()
    }

    #[test]
    fn each_rule_is_refused_where_it_cannot_be_obeyed_and_only_leaves_it_out() {
        let rate = Some(Rate::new(100.0, Some(5)));
        #[rustfmt::skip]
        let rules = [
            ("rate_per_source=100", Udp, Policy { rate_per_source: rate, ..default() }),
            ("rate_total=100", Udp, Policy { rate_total: rate, ..default() }),
            ("max_amplification=3", Udp, Policy { max_amplification: Some(3.0), ..default() }),
            ("answer_service_ports", Udp, Policy { answer_service_ports: true, ..default() }),
            ("loop_guard off", Udp, Policy { loop_guard: false, ..default() }),
            ("connections_per_source=0", Tcp, Policy { connections_per_source: Some(0), ..default() }),
            ("connection_rate_per_source=100", Tcp,
             Policy { connection_rate_per_source: rate, ..default() }),
        ];
        for (name, own, policy) in rules {
            let other = if own == Udp { Tcp } else { Udp };
            assert_eq!(policy.validate_for(own), Ok(()), "{name}");
            let error = policy.validate_for(other).unwrap_err();
            let text = error.to_string();
            assert!(error.is_argument(), "{text}");
            assert!(
                text.contains(&format!("cannot set {name}: ")) && text.contains("guard.only("),
                "{text}"
            );
            assert_eq!(policy.clone().only(other), default(), "{name}");
            assert_eq!(policy.clone().only(own), policy, "{name}");
        }
    }

    #[test]
    fn networks_are_for_both() {
        let policy = Policy {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.0.0.1".parse().unwrap()],
            ..default()
        };
        for protocol in [Udp, Tcp] {
            assert_eq!(policy.validate_for(protocol), Ok(()));
            assert_eq!(policy.clone().only(protocol), policy);
        }
    }
}
