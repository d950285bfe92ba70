package taskhub

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"modernc.org/sqlite"
)

// openDB opens connections that keep their prepared statements: SQLite takes longer to prepare a short statement than to run it.
func openDB(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

type connector struct{ driver.Connector }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{sqliteConn: opened.(sqliteConn), idle: map[string]statement{}}, nil
}

// sqliteConn is what database/sql uses of the driver's connections.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type connection struct {
	sqliteConn
	idle map[string]statement // by text; those that nobody uses now
}

// maxIdle bounds the statements that a connection keeps. This package has fewer.
const maxIdle = 200

func (c *connection) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	result, err := s.ExecContext(ctx, args)
	return result, c.done(query, s, err)
}

func (c *connection) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	found, err := s.QueryContext(ctx, args)
	if err != nil {
		return nil, c.done(query, s, err)
	}
	return keptRows{found, func(err error) error { return c.done(query, s, err) }}, nil
}

// take returns a statement that nobody else uses. A transaction may run a text again while it reads the rows of the same text.
func (c *connection) take(ctx context.Context, query string) (statement, error) {
	if s, ok := c.idle[query]; ok {
		delete(c.idle, query)
		return s, nil
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.(statement), nil
}

// done keeps a statement that has been used, or closes it if it failed, and returns its error.
func (c *connection) done(query string, s statement, err error) error {
	if _, twice := c.idle[query]; err != nil || twice || len(c.idle) >= maxIdle {
		return cmp.Or(err, s.Close())
	}
	c.idle[query] = s
	return nil
}

func (c *connection) Close() error {
	var err error
	for _, s := range c.idle {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, c.sqliteConn.Close())
}

// keptRows end with the use of their statement.
type keptRows struct {
	driver.Rows
	done func(error) error
}

func (r keptRows) Close() error { return r.done(r.Rows.Close()) }
