"""The world in which each planted bug was found when it was last looked for from the first seed on.

It is looked at first, which saves nine tenths of the worlds. A change of the product or of the simulator makes other
histories of the seeds: where a bug is not found in its world any more, all are gone through, and the test says in which
one it was. `pytest -s` shows that of each.
"""

from __future__ import annotations

FOUND_BEFORE = {
    "answer_before_the_secondary": 1,
    "answer_a_flush_before_the_secondary": 1,
    "skip_the_grant": 1,
    "send_a_stale_resync_read": 17,
    "take_what_is_packed_for_its_size": 41,
    "forget_what_was_in_flight": 24,
    "resume_with_frames_missing": 55,
    "report_in_sync_while_copying": 2,
    "serve_before_it_is_confirmed": 12,
    "forget_that_writes_may_be_lacking": 4,
    "believe_old_maps": 65,
    "record_no_intent": 10,
    "clear_intents_early": 68,
    "forget_intents": 3,
    "acknowledge_before_applying": 1,
    "answer_flushes_of_the_stream_at_once": 14,
    "keep_nothing_of_what_a_resync_overwrites": 32,
    "lead_without_rolling_back": 16,
    "hide_that_an_image_is_suspect": 13,
    "claim_the_lineage_with_differences": 34,
    "go_on_after_a_failed_flush": 8,
    "believe_a_backup": 10,
    "hear_without_listening": 5,
    "take_any_word_for_an_answer": 983,
    "believe_a_history_that_was_left": 19,
    "apply_after_promotion": 2,
    "obey_past_terms": 7,
    "keep_terms_in_memory_only": 7,
    "serve_although_replaced": 24,
    "read_what_nobody_has_answered_for": 10,
    "take_late_reports": 1,
    "promote_a_stale_side": 1,
    "understate_since_when": 6,
    "understate_how_much": 6,
    "find_everything_equal": 1,
    "promise_in_memory_only": 7,
    "go_alone_in_memory_only": 3,
    "record_nothing_unstable": 13,
    "keep_old_content_of_one_disk": 1,
    "keep_old_content_in_memory_only": 83,
    "wait_for_a_person_instead_of_healing": 31,
    "answer_for_what_was_not_extended": 1,
    "take_the_new_range_for_recorded": 30,
    "forget_what_differs_when_a_disk_grows": 3,
    "undo_what_hosts_have_seen": 1,
    "take_a_new_member_for_copied": 5,
    "call_an_image_with_a_new_member_consistent": 2,
    "forget_the_records_of_members_that_stay": 9,
}
