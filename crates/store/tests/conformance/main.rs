//! One contract, one suite, every database.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

mod basics;
mod cascade;
mod child;
mod crash;
mod durability;
mod feed;
mod fixture;
mod leases;
mod scale;
mod schema;
mod secrets;
mod simulated_faults;

/// Runs each case on each database, as a test of its own.
macro_rules! suite {
    ($($module:ident { $($case:ident,)* })*) => {
        mod sqlite { $( mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::$module::$case(&crate::fixture::Fixture::sqlite()).await;
            }
        )* } )* }
        mod postgres { $( mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::$module::$case(&crate::fixture::Fixture::postgres().await).await;
            }
        )* } )* }
        mod simulated { $( mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::$module::$case(&crate::fixture::Fixture::simulated()).await;
            }
        )* } )* }
    };
}

suite! {
    basics {
        a_resource_is_created_read_changed_and_deleted,
        a_write_of_another_version_is_refused,
        a_batch_is_all_or_nothing,
        a_put_of_equal_content_wakes_nobody,
        lists_select_by_mesh_and_labels,
        what_was_written_is_there_after_a_restart,
        what_no_database_holds_is_refused,
    }
    cascade {
        a_mesh_takes_everything_in_it_along,
        a_zone_takes_what_came_from_it_along,
        an_owner_must_exist,
        what_a_batch_requires_must_exist,
    }
    feed {
        insights_never_wake_the_configuration,
        a_reader_sees_its_own_writes,
        nothing_is_missed_with_many_writers,
        who_was_behind_the_horizon_reads_everything,
    }
    leases {
        one_holder_at_a_time_and_the_token_grows,
        a_paused_leader_cannot_write_late,
        candidates_hand_over,
    }
    secrets {
        secrets_are_encrypted_and_keys_rotate,
        plain_secrets_are_warned_of_once_and_never_printed,
    }
    schema {
        a_newer_schema_is_refused,
    }
    crash {
        a_killed_writer_loses_nothing_acknowledged,
    }
    scale {
        a_hundred_thousand_resources,
        a_storm_of_updates_counts_each_exactly_once,
    }
}
