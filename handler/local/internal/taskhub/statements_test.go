package taskhub

import "testing"

// kept returns how many statements the writing connection keeps.
func kept(t *testing.T, h *TaskHub) (n int) {
	t.Helper()
	conn, err := h.write.Conn(t.Context())
	mustBe(t, err, nil)
	defer conn.Close()
	mustBe(t, conn.Raw(func(c any) error {
		n = len(c.(*connection).idle)
		return nil
	}), nil)
	return n
}

func TestStatementsAreKept(t *testing.T) {
	t.Parallel()
	h := openHub(t, t.TempDir())
	before := kept(t, h)
	for range 3 {
		mustBe(t, h.update(t.Context(), func(x tx) error { return x.exec("UPDATE tasks SET deaths = deaths WHERE seq = ?", 1) }), nil)
		if n := kept(t, h) - before; n != 1 {
			t.Fatalf("%d statements are kept of one text", n)
		}
		if err := h.update(t.Context(), func(x tx) error { return x.exec("UPDATE tasks SET instance = ? WHERE nothing = 1", 1) }); err == nil {
			t.Error("a statement with an unknown column is accepted")
		}
		if n := kept(t, h) - before; n != 1 {
			t.Fatalf("%d statements are kept, the failed one among them", n)
		}
	}
}

// TestStatementInItself: a text runs again while the rows of its first run are read.
func TestStatementInItself(t *testing.T) {
	t.Parallel()
	h := openHub(t, t.TempDir())
	const three = "SELECT value FROM json_each(?)"
	var got []int
	err := h.update(t.Context(), func(x tx) error {
		outer, err := x.QueryContext(x.ctx, three, "[10,20,30]")
		if err != nil {
			return err
		}
		defer outer.Close()
		for outer.Next() {
			var tens, ones int
			if err := outer.Scan(&tens); err != nil {
				return err
			}
			if err := x.queryRow(three, "[7,8]").Scan(&ones); err != nil {
				return err
			}
			got = append(got, tens+ones)
		}
		return outer.Err()
	})
	if err != nil || len(got) != 3 || got[0] != 17 || got[2] != 37 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestStatementThatFails: a statement that fails does not spoil the next run of its text.
func TestStatementThatFails(t *testing.T) {
	t.Parallel()
	h := openHub(t, t.TempDir())
	put := func(seq int) error {
		return h.update(t.Context(), func(x tx) error {
			return x.exec("INSERT INTO history (instance, seq, payload) VALUES ('a', ?, x'')", seq)
		})
	}
	mustBe(t, put(1), nil)
	if err := put(1); err == nil {
		t.Error("a second row has the same key")
	}
	mustBe(t, put(2), nil)
	var n int
	if err := h.read.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM history").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}
