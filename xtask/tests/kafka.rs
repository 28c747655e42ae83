//! A real Kafka is started, ended and reached in every way that the library offers.

#[cfg(test)]
mod real_kafka {
    use std::process::{Command, Stdio};

    use xtask::kafka::{Kafka, Listener, Operation, Options, Resource, Security};

    fn openssl_says(kafka: &Kafka, listener: &str, with_certificate: bool) -> bool {
        let certificates = kafka.certificates().unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_client", "-verify_return_error", "-connect", &kafka.addresses(listener).unwrap()]);
        command.arg("-CAfile").arg(certificates.authority());
        if with_certificate {
            command.arg("-cert").arg(certificates.client_certificate()).arg("-key").arg(certificates.client_key());
        }
        command.stdin(Stdio::null()).output().unwrap().status.success()
    }

    #[test]
    fn topics_outlive_a_restart_and_a_kill_on_the_same_address() {
        let mut kafka = Kafka::start(Options::default()).unwrap();
        let address = kafka.bootstrap();
        kafka.create_topic("kept", 3, &[("retention.ms", "60000")]).unwrap();
        let again = kafka.create_topic("kept", 3, &[]).unwrap_err();
        assert!(format!("{again:#}").contains("already exists"), "{again:#}");

        kafka.create_topic("dropped", 1, &[]).unwrap();
        kafka.delete_topic("dropped").unwrap();
        assert!(kafka.delete_topic("dropped").is_err(), "it is gone");

        kafka.restart().unwrap();
        assert!(kafka.is_running());
        assert_eq!(kafka.bootstrap(), address);
        assert!(kafka.create_topic("kept", 3, &[]).is_err(), "it is still there");

        kafka.kill();
        assert!(!kafka.is_running());
        kafka.restart().unwrap();
        assert!(kafka.create_topic("kept", 3, &[]).is_err(), "it is still there");
        assert_eq!(kafka.bootstrap(), address);
    }

    #[test]
    fn a_kafka_that_was_left_running_is_found_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let kafka = Kafka::start(Options::default().directory(folder.path())).unwrap();
        let address = kafka.bootstrap();
        kafka.detach().unwrap();

        let mut found = Kafka::find(folder.path()).unwrap().unwrap();
        assert_eq!(found.bootstrap(), address);
        found.create_topic("reached", 1, &[]).unwrap();
        drop(found);
        let mut found = Kafka::find(folder.path()).unwrap().unwrap();
        assert!(found.is_running(), "finding and letting go ends nothing");
        found.stop();
        assert!(Kafka::find(folder.path()).unwrap().is_none());
    }

    #[test]
    fn two_of_three_brokers_carry_on() {
        let mut kafka = Kafka::start(Options::default().brokers(3)).unwrap();
        kafka.create_topic("before", 3, &[]).unwrap();
        kafka.kill_broker(1).unwrap();
        kafka.create_topic("meanwhile", 3, &[]).unwrap();
        kafka.start_broker(1).unwrap();
        assert!(kafka.start_broker(1).unwrap_err().to_string().contains("runs already"));
        assert!(kafka.kill_broker(4).is_err() && kafka.kill_broker(0).is_err());
        assert!(kafka.is_running());
    }

    #[test]
    fn a_listener_takes_only_clients_that_show_what_it_asks_for() {
        let options = Options::default()
            .listener(Listener::new("TLS", Security::Tls))
            .listener(Listener::new("MUTUAL", Security::MutualTls))
            .listener(Listener::new("SASL", Security::SaslTls))
            .user("alice", "secret")
            .authorizer();
        let mut kafka = Kafka::start(options).unwrap();
        assert!(openssl_says(&kafka, "TLS", false));
        assert!(openssl_says(&kafka, "SASL", false));
        assert!(openssl_says(&kafka, "MUTUAL", true));
        assert!(kafka.addresses("NONE").is_err());

        kafka.create_topic("guarded", 1, &[]).unwrap();
        for (operation, resource) in [
            (Operation::Read, Resource::Topic("guarded")),
            (Operation::Write, Resource::TopicPrefix("loginscope-")),
            (Operation::Read, Resource::Group("*")),
            (Operation::Read, Resource::GroupPrefix("loginscope")),
            (Operation::All, Resource::TransactionalId("one")),
            (Operation::Write, Resource::TransactionalIdPrefix("loginscope-")),
            (Operation::IdempotentWrite, Resource::Cluster),
        ] {
            kafka.allow("User:alice", operation, resource).unwrap();
        }
        assert!(kafka.allow("not a principal", Operation::Read, Resource::Cluster).is_err());
    }
}
