#include "tempra/io/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "platform/files.h"
#include "temporary_directory.h"
#include "tempra/io/crc32.h"

namespace tempra::io {
namespace {

using Names = std::vector<std::string>;

class AtomicFileTest : public ::testing::Test {
  protected:
    void TearDown() override { platform::set_write_fault({}); }
    TemporaryDirectory folder_;
};

TEST_F(AtomicFileTest, AppearsOnCommit) {
    AtomicFile file(folder_ / "a");
    file.write("one ", 4);
    file.write("two", 3);
    EXPECT_FALSE(platform::exists(folder_ / "a"));
    EXPECT_EQ(file.bytes_written(), 7);
    const WrittenFile written = file.commit();
    EXPECT_EQ(written.bytes, 7);
    EXPECT_EQ(written.crc32, crc32("one two", 7));
    EXPECT_EQ(read_text(folder_ / "a"), "one two");
    EXPECT_EQ(folder_.names(), Names{"a"});
    EXPECT_THROW(file.write("x", 1), Error);
    EXPECT_THROW(file.commit(), Error);
}

TEST_F(AtomicFileTest, LargeAndSmallPiecesKeepTheirOrder) {
    std::string expected;
    AtomicFile file(folder_ / "a");
    for (const size_t size : {1, 100, 700'000, 600'000, 3'000'000, 5, 1 << 20, 0, 17}) {
        const std::string piece(size, static_cast<char>('a' + expected.size() % 26));
        file.write(piece.data(), static_cast<std::int64_t>(size));
        expected += piece;
    }
    file.commit();
    EXPECT_EQ(read_text(folder_ / "a"), expected);
}

TEST_F(AtomicFileTest, BorrowedAndCopiedPiecesKeepTheirOrder) {
    std::string source(5'000'000, ' ');
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<char>(i * 2654435761U >> 13);
    AtomicFile file(folder_ / "a");
    AtomicFile unchecked(folder_ / "b", AtomicFile::Checksum::skip);
    size_t done = 0;
    for (int i = 0; done < source.size(); ++i) {
        const size_t sizes[] = {48, 8192, 1, 1024, 0, 700'000, 1'500'000, 100};
        const size_t size = std::min(sizes[i % 8], source.size() - done);
        for (AtomicFile* to : {&file, &unchecked}) {
            if (i % 2 == 0) {
                const std::string copy = source.substr(done, size);
                to->write(copy.data(), std::ssize(copy));
            } else {
                to->write_borrowed(source.data() + done, static_cast<std::int64_t>(size));
            }
        }
        done += size;
    }
    EXPECT_EQ(file.checksum(), crc32(source.data(), std::ssize(source)));
    EXPECT_EQ(file.commit().crc32, crc32(source.data(), std::ssize(source)));
    const WrittenFile written = unchecked.commit();
    EXPECT_EQ(written.bytes, std::ssize(source));
    EXPECT_EQ(written.crc32, 0U);
    EXPECT_EQ(read_text(folder_ / "a"), source);
    EXPECT_EQ(read_text(folder_ / "b"), source);
}

TEST_F(AtomicFileTest, ManySmallBorrowedPieces) {
    const std::string source(4'000'000, 's');
    AtomicFile file(folder_ / "a");
    std::string expected;
    for (size_t i = 0; i < 3'000; ++i) {
        file.write("-", 1);
        file.write_borrowed(source.data(), 1024);
        expected.append(1, '-').append(source, 0, 1024);
    }
    file.commit();
    EXPECT_EQ(read_text(folder_ / "a"), expected);
}

TEST_F(AtomicFileTest, ZerosAreReplacedWhetherStillInMemoryOrNot) {
    const std::string zeros(100, '\0'), filling(2'000'000, 'f'), header(100, 'h');
    AtomicFile file(folder_ / "a");
    file.write("start", 5);
    file.write(zeros.data(), 100);
    file.replace_zeros(5, header.data(), 60);
    file.write(filling.data(), std::ssize(filling));
    file.replace_zeros(65, header.data(), 40);
    EXPECT_THROW(file.replace_zeros(2'000'100, header.data(), 6), Error);
    EXPECT_THROW(file.replace_zeros(-1, header.data(), 1), Error);
    file.write("end", 3);
    const std::string expected = "start" + header + filling + "end";
    EXPECT_EQ(file.checksum(), crc32(expected.data(), std::ssize(expected)));
    const WrittenFile written = file.commit();
    EXPECT_EQ(read_text(folder_ / "a"), expected);
    EXPECT_EQ(written.bytes, std::ssize(expected));
    EXPECT_EQ(written.crc32, crc32(expected.data(), std::ssize(expected)));
}

TEST_F(AtomicFileTest, WithoutCommitNothingRemains) {
    write_text(folder_ / "a", "old");
    {
        AtomicFile file(folder_ / "a");
        file.write("new", 3);
        EXPECT_EQ(folder_.names().size(), 2U);
    }
    EXPECT_EQ(folder_.names(), Names{"a"});
    EXPECT_EQ(read_text(folder_ / "a"), "old");
}

TEST_F(AtomicFileTest, TwoWritersOfOneNameDoNotMix) {
    AtomicFile first(folder_ / "a");
    AtomicFile second(folder_ / "a");
    first.write("first", 5);
    second.write("second", 6);
    first.commit();
    second.commit();
    EXPECT_EQ(read_text(folder_ / "a"), "second");
    EXPECT_EQ(folder_.names(), Names{"a"});
}

TEST_F(AtomicFileTest, EveryFailingOperationLeavesTheOldFile) {
    const std::string big(3 << 20, 'n');
    const auto save = [&] { write_file(folder_ / "a", big.data(), std::ssize(big)); };
    for (const bool persistent : {false, true}) {
        for (int operation = 1;; ++operation) {
            write_text(folder_ / "a", "old");
            platform::set_write_fault({operation, ENOSPC, true, persistent});
            bool failed = false;
            try {
                save();
            } catch (const IoError& error) {
                failed = true;
                EXPECT_EQ(error.error_number(), ENOSPC);
            }
            const std::int64_t operations = platform::write_operation_count();
            platform::set_write_fault({});
            EXPECT_EQ(folder_.names(), Names{"a"}) << "operation " << operation;
            if (!failed) {
                EXPECT_EQ(operation, operations + 1);
                break;
            }
            const std::string text = read_text(folder_ / "a");
            // Syncing the folder comes last, when the new file is already in place.
            EXPECT_TRUE(text == "old" || (operation == 6 && text == big)) << operation;
        }
    }
}

TEST_F(AtomicFileTest, StaleTemporariesAreRemovedAndOthersKept) {
    const pid_t child = fork();
    if (child == 0) {
        AtomicFile file(folder_ / "half");
        file.write("half", 4);
        _exit(0);  // no destructor runs, as after a kill
    }
    waitpid(child, nullptr, 0);
    AtomicFile mine(folder_ / "mine");
    for (const char* name : {".x.0-1.tempra-tmp", ".x.12.tempra-tmp", "x.2147483647-1.tempra-tmp",
                             ".x.2147483647-1.other", ".x.1a-1.tempra-tmp", ".tempra-tmp"}) {
        write_text(folder_ / name, "");
    }
    const size_t before = folder_.names().size();
    EXPECT_EQ(before, 8U);
    EXPECT_EQ(remove_stale_temporaries(folder_.path()), 1);
    EXPECT_EQ(folder_.names().size(), before - 1);
    mine.commit();
    EXPECT_TRUE(platform::exists(folder_ / "mine"));
}

// --- folders --------------------------------------------------------------------------------

class PublishDirectoryTest : public AtomicFileTest {
  protected:
    void make_folder(const std::string& name, const std::string& text) {
        platform::make_directories(folder_ / name + "/inner");
        write_text(folder_ / name + "/a", text);
        write_text(folder_ / name + "/inner/b", text);
    }
    [[nodiscard]] std::string content(const std::string& name) const {
        return read_text(folder_ / name + "/a") + read_text(folder_ / name + "/inner/b");
    }
};

TEST_F(PublishDirectoryTest, AppearsAndReplaces) {
    make_folder("tmp", "1");
    publish_directory(folder_ / "tmp", folder_ / "step");
    EXPECT_EQ(folder_.names(), Names{"step"});
    EXPECT_EQ(content("step"), "11");
    make_folder("tmp", "2");
    publish_directory(folder_ / "tmp", folder_ / "step");
    EXPECT_EQ(folder_.names(), Names{"step"});
    EXPECT_EQ(content("step"), "22");
}

TEST_F(PublishDirectoryTest, CleansUpAfterAnInterruptedReplacement) {
    make_folder("step.replaced", "1");  // its process died between the two renames
    make_folder("tmp", "2");
    publish_directory(folder_ / "tmp", folder_ / "step");
    EXPECT_EQ(folder_.names(), Names{"step"});
    make_folder("step.replaced", "1");  // died before the removal
    make_folder("tmp", "3");
    publish_directory(folder_ / "tmp", folder_ / "step");
    EXPECT_EQ(folder_.names(), Names{"step"});
    EXPECT_EQ(content("step"), "33");
}

TEST_F(PublishDirectoryTest, EveryFailingOperationKeepsACompleteFolder) {
    for (const bool persistent : {false, true}) {
        for (int operation = 1;; ++operation) {
            make_folder("step", "1");
            make_folder("tmp", "2");
            platform::set_write_fault({operation, EIO, false, persistent});
            bool failed = false;
            try {
                publish_directory(folder_ / "tmp", folder_ / "step");
            } catch (const IoError&) {
                failed = true;
            }
            const std::int64_t operations = platform::write_operation_count();
            platform::set_write_fault({});
            const bool in_place = platform::exists(folder_ / "step");
            // A full disk may also keep the old folder from being put back: then it stays aside.
            EXPECT_TRUE(in_place || persistent) << operation;
            const std::string found = content(in_place ? "step" : "step.replaced");
            EXPECT_TRUE(found == "11" || (found == "22" && operation >= 7)) << operation << found;
            for (const std::string& name : folder_.names()) platform::remove_tree(folder_ / name);
            if (!failed) {
                EXPECT_EQ(found, "22");
                EXPECT_EQ(operation, operations + 1);
                break;
            }
        }
    }
}

TEST_F(PublishDirectoryTest, MissingTemporaryIsAnError) {
    make_folder("step", "1");
    EXPECT_THROW(publish_directory(folder_ / "tmp", folder_ / "step"), IoError);
    EXPECT_EQ(content("step"), "11");
}

}  // namespace
}  // namespace tempra::io
