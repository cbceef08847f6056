"""The two tables as the first deployment had them, where they don't stand yet.

An empty database and an adopted one are the same from here on.
"""

from __future__ import annotations

from typing import Any

from migrations.steps import is_sqlite

MYSQL = (
    """
    CREATE TABLE IF NOT EXISTS `chatSessions` (
        `id` INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        `sessionId` VARCHAR(64) NOT NULL UNIQUE,
        `agentId` INT NOT NULL DEFAULT 1,
        `status` ENUM('running', 'done', 'error') NOT NULL DEFAULT 'running',
        `userMessage` TEXT NOT NULL,
        `finalResponse` TEXT NULL,
        `model` VARCHAR(128) NULL,
        `totalTokens` INT NULL DEFAULT 0,
        `processingTimeMs` INT NULL DEFAULT 0,
        `errorMessage` TEXT NULL,
        `createdAt` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        `updatedAt` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
        INDEX `idx_status` (`status`),
        INDEX `idx_createdAt` (`createdAt`)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
    """
    CREATE TABLE IF NOT EXISTS `chatEvents` (
        `id` INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        `sessionId` VARCHAR(64) NOT NULL,
        `seq` INT NOT NULL DEFAULT 0,
        `eventType` ENUM('thinking', 'tool_call', 'delta', 'done', 'error') NOT NULL,
        `content` TEXT NULL,
        `toolName` VARCHAR(128) NULL,
        `toolArgs` JSON NULL,
        `toolResult` TEXT NULL,
        `toolSuccess` TINYINT(1) NULL,
        `durationMs` INT NULL,
        `model` VARCHAR(128) NULL,
        `usageJson` JSON NULL,
        `errorMsg` TEXT NULL,
        `createdAt` TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
        INDEX `idx_session_seq` (`sessionId`, `seq`)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
)

SQLITE = (
    """
    CREATE TABLE IF NOT EXISTS "chatSessions" (
        "id" INTEGER PRIMARY KEY AUTOINCREMENT,
        "sessionId" VARCHAR(64) NOT NULL UNIQUE,
        "agentId" INTEGER NOT NULL DEFAULT 1,
        "status" VARCHAR(8) NOT NULL DEFAULT 'running' CHECK ("status" IN ('running', 'done', 'error')),
        "userMessage" TEXT NOT NULL,
        "finalResponse" TEXT NULL,
        "model" VARCHAR(128) NULL,
        "totalTokens" INTEGER NULL DEFAULT 0,
        "processingTimeMs" INTEGER NULL DEFAULT 0,
        "errorMessage" TEXT NULL,
        "createdAt" TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updatedAt" TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS "chatEvents" (
        "id" INTEGER PRIMARY KEY AUTOINCREMENT,
        "sessionId" VARCHAR(64) NOT NULL,
        "seq" INTEGER NOT NULL DEFAULT 0,
        "eventType" VARCHAR(16) NOT NULL
            CHECK ("eventType" IN ('thinking', 'tool_call', 'delta', 'done', 'error')),
        "content" TEXT NULL,
        "toolName" VARCHAR(128) NULL,
        "toolArgs" TEXT NULL,
        "toolResult" TEXT NULL,
        "toolSuccess" INTEGER NULL,
        "durationMs" INTEGER NULL,
        "model" VARCHAR(128) NULL,
        "usageJson" TEXT NULL,
        "errorMsg" TEXT NULL,
        "createdAt" TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
    """,
)


def up(migrator: Any, db: Any) -> None:
    for statement in SQLITE if is_sqlite(db) else MYSQL:
        db.execute_sql(statement)
