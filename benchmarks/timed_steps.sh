# Steps of a script under one deadline, none of whose results is lost when it is cut off. To source:
#
#   begin_steps SECONDS ROWS FOLDER [NAME...]   all steps end by then; with names, only these are run
#   run_step NAME SECONDS [NEEDED...]           runs the function step_NAME by itself
#   end_steps                                   prints the summary; 1 unless all have passed or had a
#                                               reason to be skipped, 77 where none has passed
#
# A step is a process group of its own, with the script's functions and exported variables, `set -euo
# pipefail`, and no longer than its own limit or what is left of the whole. It is recorded as
#   passed | FAILED (status N) | TIMED OUT after N s | skipped: WHY
# Status 77 is a skip whose reason is the last line that was printed; a step that needs one which did
# not pass is skipped, and so is one for which no time is left. Within a step
#   ... | keep_rows     passes lines on, and appends those of JSON to ROWS at once, with the step's name
#   remark NAME TEXT    a line of the summary, which replaces an earlier one of that name
# and STEP_SECONDS is its limit. Whole lines alone get to ROWS, so that it can be read whatever
# happened. FOLDER gets summary.txt, written again before and after every step, and logs.tar.gz with
# what each step printed.

least_seconds=5  # with less left a step is not begun

begin_steps() {
    deadline=$1
    export ROWS=$2
    report_folder=$3
    shift 3
    wanted=("$@")
    step_names=()
    declare -gA step_verdicts=() step_seconds=()
    step_work=$(mktemp -d)
    mkdir -p "$report_folder" "$(dirname "$ROWS")" "$step_work/logs" "$step_work/remarks"
    export REMARKS=$step_work/remarks
    running_step='' step_process=''
    trap 'cut_off' TERM INT HUP
    trap 'rm -rf "$step_work"' EXIT
    # shellcheck disable=SC2046
    export -f $(compgen -A function)
}

remark() {
    printf '%s\n' "$2" > "$REMARKS/$1"
}

keep_rows() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line"
        if [[ $line == "{"*"}" ]]; then
            printf '{"step": "%s", %s%s\n' "$STEP" "${ROW_FIELDS:-}" "${line#"{"}" >> "$ROWS"
        fi
    done
}

run_step() {
    local name=$1 limit=$2 needed status=0
    shift 2
    if ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $name "* ]]; then return; fi
    for needed in "$@"; do
        local how=${step_verdicts[$needed]:-not run}
        if [[ $how != passed ]]; then
            record_step "$name" "skipped: needs $needed, which was ${how%%:*}" 0
            return
        fi
    done
    if ((deadline - SECONDS < least_seconds)); then
        record_step "$name" "skipped: no time left of $deadline s" 0
        return
    fi
    ((limit <= deadline - SECONDS)) || limit=$((deadline - SECONDS))
    echo "==> $name, at most $limit s"
    running_step=$name step_began=$SECONDS
    write_summary > "$report_folder/summary.txt"
    STEP=$name STEP_SECONDS=$limit timeout -k 3 "$limit" bash -c "set -euo pipefail; step_$name" \
        > "$step_work/logs/$name.log" 2>&1 < /dev/null &
    step_process=$!
    wait "$step_process" || status=$?
    running_step=''
    kill -KILL -- "-$step_process" 2> "$step_work/kill.log" || true  # what outlived the step
    tail -n 12 "$step_work/logs/$name.log"
    local seconds=$((SECONDS - step_began)) verdict="FAILED (status $status)"
    case $status in
        0) verdict=passed ;;
        77)
            verdict=$(tail -n 1 "$step_work/logs/$name.log")
            verdict="skipped: ${verdict#SKIPPED: }"
            ;;
        124) verdict="TIMED OUT after $seconds s" ;;
        # It had to be killed, by timeout or for the memory that it took.
        137) ((seconds < limit)) || verdict="TIMED OUT after $seconds s" ;;
    esac
    record_step "$name" "$verdict" "$seconds"
}

record_step() {
    step_names+=("$1")
    step_verdicts[$1]=$2
    step_seconds[$1]=$3
    local quoted=${2//\\/\\\\}
    quoted=${quoted//\"/\\\"}
    printf '{"step": "%s", %s"status": "%s", "seconds": %d}\n' \
        "$1" "${ROW_FIELDS:-}" "${quoted//[[:cntrl:]]/ }" "$3" >> "$ROWS"
    echo "==> $1 $2, $3 s"
    write_summary > "$report_folder/summary.txt"
    tar -czf "$step_work/logs.tar.gz" -C "$step_work" logs
    mv "$step_work/logs.tar.gz" "$report_folder/logs.tar.gz.part"
    mv "$report_folder/logs.tar.gz.part" "$report_folder/logs.tar.gz"
}

write_summary() {
    local name note
    for name in "${step_names[@]}"; do
        printf '%-14s %4d s  %s\n' "$name" "${step_seconds[$name]}" "${step_verdicts[$name]}"
    done
    if [[ -n $running_step ]]; then
        printf '%-14s    ? s  was running when this was written\n' "$running_step"
    fi
    for note in "$REMARKS"/*; do
        if [[ -f $note ]]; then cat "$note"; fi
    done
    echo "$SECONDS s of $deadline s"
}

cut_off() {
    trap '' TERM INT HUP
    if [[ -n $running_step ]]; then
        kill -TERM "$step_process" 2> "$step_work/kill.log" || true
        wait "$step_process" 2> "$step_work/kill.log" || true  # 3 s at most
        kill -KILL -- "-$step_process" 2> "$step_work/kill.log" || true
        record_step "$running_step" "CUT OFF from outside" "$((SECONDS - step_began))"
        running_step=''
    fi
    end_steps || true
    exit 143
}

end_steps() {
    local name passed=0 failed=0
    echo "==> summary"
    write_summary | tee "$report_folder/summary.txt"
    for name in "${wanted[@]}"; do
        if [[ -z ${step_verdicts[$name]:-} ]]; then
            echo "no step is called $name" >&2
            failed=1
        fi
    done
    for name in "${step_names[@]}"; do
        case ${step_verdicts[$name]} in
            passed) passed=1 ;;
            "skipped: no time"*) failed=1 ;;
            skipped:*) ;;
            *) failed=1 ;;
        esac
    done
    ((failed == 0)) || return 1
    ((passed)) || return 77
}
